"""Starts processes that keep running when their parent ends, and Ray's own processes."""
