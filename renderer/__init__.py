"""The process on a device: it keeps models warm and does one task, or one lockstep group, at a time."""
