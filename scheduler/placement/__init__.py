"""Choose a device for each ready task, and say why the other tasks wait. Pure: no clock, no I/O."""
