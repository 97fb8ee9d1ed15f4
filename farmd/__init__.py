"""The daemon: it connects the store, the scheduler and the API, and serves the farm."""
