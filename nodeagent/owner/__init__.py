"""Gives a workstation back to its owner while the owner is there. Its unfinished windows go back to the farm."""
