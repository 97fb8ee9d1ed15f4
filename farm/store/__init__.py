"""The farm's SQL database: jobs, tasks and their dependencies, attempts, nodes, devices, artifacts and events."""

from farm.store.store import Store

__all__ = ["Store"]
