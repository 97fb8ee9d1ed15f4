"""The workstation's side of the farm: the agent, which speaks for its renderers."""
