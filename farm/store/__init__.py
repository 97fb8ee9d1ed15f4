"""The farm's record in SQL: jobs, tasks and their edges, attempts, nodes, devices, artifacts and events."""

from farm.store.store import Store

__all__ = ["Store"]
