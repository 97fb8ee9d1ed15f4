"""python -m farm.cli: farmctl."""

from farm.program import run_program

run_program("farmctl", "farm.cli")
