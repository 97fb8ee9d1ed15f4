"""Gives a workstation back while its owner is there, and hands back the windows that run on it."""
