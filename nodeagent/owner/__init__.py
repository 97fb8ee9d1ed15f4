"""Whose a workstation is while its owner is there, and what becomes of its windows."""
