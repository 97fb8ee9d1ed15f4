"""Runs the daemon, farmd, for `python -m farmd`."""

from farm.program import run_program

run_program("farmd", "farmd.main")
