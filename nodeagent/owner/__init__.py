"""Frees a workstation while its owner is there. The farm then renders the unfinished windows elsewhere."""
