"""Gives a workstation back while its owner is there, and hands the windows that run on it back to the farm."""
