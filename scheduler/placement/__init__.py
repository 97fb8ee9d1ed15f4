"""Which ready task goes to which device, and why others wait. Pure, every second."""
