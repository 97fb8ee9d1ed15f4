"""The farm's record in SQL: jobs, tasks and the edges between tasks, attempts, nodes, devices, artifacts, events."""

from farm.store.store import Store

__all__ = ["Store"]
