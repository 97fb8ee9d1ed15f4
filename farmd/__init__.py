"""The daemon: it puts the store, the scheduler and the API together, and serves the farm."""
