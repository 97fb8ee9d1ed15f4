"""Processes that outlive whoever started them, and Ray's own."""
