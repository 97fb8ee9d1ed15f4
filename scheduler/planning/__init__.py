"""Turns a job's spec into a plan: the windows, the conditions (images and clips) and the task graph.

The planner does no I/O: it reads no files and no database.
"""
