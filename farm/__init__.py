"""The farm's front door and record: spec, store, API, client and command line."""

__version__ = "0.2.0"

PROTOCOL = 3
"""What agent, daemon and renderer say to each other. Raise it when an older one would misunderstand a newer one.

A daemon works with agents of this protocol and of the one before (farmd.api.versions), whose renderers get the same tasks:
what is added to farm/plan.py or to questions between renderers must be something that they may overlook. 3: the
renderer has another name.
"""
