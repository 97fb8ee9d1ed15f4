"""Runs farmctl as `python -m farm.cli`."""

from farm.program import run_program

run_program("farmctl", "farm.cli")
