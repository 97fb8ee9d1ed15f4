"""Starts processes that outlive the process that started them, and Ray's own processes."""
