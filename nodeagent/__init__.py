"""The workstation's side of the farm: the agent, which connects the workstation's renderers with the daemon."""
