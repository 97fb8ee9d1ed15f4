"""The store's records as placement sees them. Pure translation."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from farm.states import NodeState
from farm.store.records import NodeRecord
from farm.store.records import ReadyTask as ReadyRecord
from scheduler.placement import ReadyTask, Slot


def slots_of(
    nodes: Iterable[NodeRecord], renderer_up: Callable[[str, str], bool] = lambda node_id, device: True
) -> list[Slot]:
    """Every device of every node. `renderer_up(node id, device)`: whether its renderer can take work."""
    slots = []
    for node in nodes:
        for device in node.devices:
            reason = node.reason
            if node.state is NodeState.OFFLINE:
                reason = reason or "is offline"
            elif not node.ray_node_id:
                reason = "is starting Ray"
            elif not renderer_up(node.id, device.name):
                reason = "has no renderer up"
            slots.append(
                Slot(
                    node_id=node.id,
                    node=node.name,
                    device=device.name,
                    vram_bytes=device.vram_bytes,
                    fp8=device.fp8,
                    flops_per_second=device.flops_per_second,
                    models=dict(node.models),
                    busy=bool(device.task),
                    usable=not reason,
                    reason=reason,
                )
            )
    return slots


def ready_task(record: ReadyRecord) -> ReadyTask:
    """A ready task with what placement must know of it."""
    task = record.task
    return ReadyTask(
        task_id=task.id,
        job_id=task.job_id,
        key=task.key,
        priority=record.priority,
        created_at=record.job_created_at,
        order=task.position,
        model=record.model,
        weights=record.weights,
        vram_bytes=task.vram_bytes,
        fp8=task.fp8,
        failed_on=task.failed_devices,
        inputs_on=frozenset(record.input_nodes.values()),
    )
