"""python -m nodeagent: farm-node."""

from farm.program import run_program

run_program("farm-node", "nodeagent.agent")
