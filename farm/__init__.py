"""The code that all parts of the farm share: job specs, database, network messages, client and command line."""

__version__ = "0.2.0"

PROTOCOL = 3
"""Version of the protocol between agent, daemon and renderer. Raise it when an older one would misunderstand a newer one.

A daemon works with agents of this protocol and of the one before (farmd.api.versions). Their renderers get the same tasks,
so an addition to farm/plan.py, or to the questions between renderers, must be one that older renderers may ignore.
Protocol 3 gave the renderer another name.
"""
