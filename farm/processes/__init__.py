"""Processes that outlive their starter, and Ray's own processes."""
