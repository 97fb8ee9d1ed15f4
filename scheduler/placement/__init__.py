"""Choose a device for each ready task, and say why the other tasks wait. Pure; called every second."""
