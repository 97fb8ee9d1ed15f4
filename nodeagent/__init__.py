"""The workstation's side of the farm: the agent, and the renderers it speaks for."""

SOCKET_VARIABLE = "FARM_AGENT_SOCKET"
"""Environment of renderers: where the agent of this machine listens."""

HOME_VARIABLE = "FARM_AGENT_HOME"
"""Environment of renderers: the agent's folder, in which renderers have theirs."""
