"""Gives a workstation back to its owner while the owner is there. Unfinished windows go back to the farm."""
