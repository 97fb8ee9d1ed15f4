"""Runs the agent, farm-node, for `python -m nodeagent`."""

from farm.program import run_program

run_program("farm-node", "nodeagent.agent")
