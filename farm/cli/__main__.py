"""python -m farm.cli: farmctl where its script isn't on the path."""

from farm.cli import main

main(prog_name="farmctl")
