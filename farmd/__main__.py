"""python -m farmd: the daemon."""

from farm.program import run_program

run_program("farmd", "farmd.main")
