"""The entry point of `python -m farm.cli`, which runs farmctl."""

from farm.program import run_program

run_program("farmctl", "farm.cli")
