"""Ray as the backend: the bridge, which is the farm's only Ray driver, and its actors."""
