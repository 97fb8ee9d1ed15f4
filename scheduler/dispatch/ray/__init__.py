"""Ray as the farm's backend.

The parts are the bridge (the process that talks to Ray for the daemon) and the Ray actors that the bridge starts.
"""
