"""The farm's record in SQL: jobs, tasks, edges, attempts, nodes, devices, artifacts, events."""

from farm.store.store import Store

__all__ = ["Store"]
