"""The workstation's side of the farm: the agent, which speaks to the daemon for its renderers."""
