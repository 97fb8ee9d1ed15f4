"""The farm's front door and record: spec, store, API, client and command line."""

__version__ = "0.1.0"

PROTOCOL = 2
"""Raised when agents and daemons of different versions could misunderstand each other."""
