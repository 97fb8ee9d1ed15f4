"""Ray as the farm's backend: the bridge (the farm's only Ray driver) and the actors that it starts."""
