"""Turns the store's records into the values that placement (the choice of devices for tasks) reads. Pure: no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from farm.model_facts import ModelFacts
from farm.plan import precision_of
from farm.records import AttemptRecord, GroupMember, NodeRecord, ReadyRecord
from scheduler.placement import reasons
from scheduler.placement.estimate import seconds_left
from scheduler.placement.groups import LockstepTask
from scheduler.placement.speed import rates
from scheduler.placement.values import ReadyTask, Slot


def slots_of(
    nodes: Iterable[NodeRecord],
    renderer_up: Callable[[str, str], bool] = lambda node_id, device: True,
    trouble: Callable[[str, str], str] = lambda node_id, device: "",
    live: Iterable[AttemptRecord] = (),
    now: float = 0.0,
    warm: Callable[[tuple[str, str]], frozenset[str] | None] = lambda device: None,
    starting_for: Callable[[tuple[str, str]], float] = lambda device: 0.0,
    lacks: Callable[[str], Mapping[str, str]] = lambda node_id: {},
) -> list[Slot]:
    """Return a slot for every device of every node. A slot is what placement needs to know about a device.

    Args:
        nodes: The nodes of the farm.
        renderer_up: Returns whether a device's renderer can take work. Called with node id and device.
        trouble: Returns why a device's renderer can't take work; "" if the reason isn't known. Called with node id and
            device.
        live: The attempts that run at `now`. They show when their devices will be free.
        now: The present time in Unix seconds.
        warm: Returns the models in a device's memory; None if they aren't known. Called with (node id, device).
        starting_for: Returns how many more seconds a device's renderer needs to start. Called with (node id, device).
        lacks: Returns a mapping from each model that a node should have but lacks to the reason. The key "" means all
            models. Called with the node id.
    """
    nodes = list(nodes)
    expected = rates(nodes)
    slots = []
    holding: dict[tuple[str, str], list[AttemptRecord]] = {}
    for attempt in live:
        holding.setdefault((attempt.node_id, attempt.device), []).append(attempt)
    for node in nodes:
        for device in node.devices:
            up = renderer_up(node.id, device.name)
            reason = reasons.unusable(node, device, up, trouble(node.id, device.name))
            slot = Slot(
                node_id=node.id,
                node=node.name,
                device=device.name,
                vram_bytes=device.vram_bytes,
                fp8=device.fp8,
                flops_per_second=device.flops_per_second,
                models=dict(node.models),
                busy=bool(device.task),
                rates=expected[node.id, device.name],
                usable=not reason,
                reason=reason,
                warm=warm((node.id, device.name)),
                starting_for=starting_for((node.id, device.name)),
                local=_is_loopback(node.address),
                lacks=lacks(node.id),
            )
            if held := holding.get(slot.key):
                # More than one are windows in lockstep, which take their steps in turn.
                rate, elapsed = slot.rate(held[0].model), now - min(a.dispatched_at for a in held)
                last = min(held, key=lambda attempt: attempt.step)
                # What an earlier attempt had done took this one no time.
                done, total = last.step - last.from_step, last.steps - last.from_step
                left = seconds_left(sum(a.flops for a in held), rate, elapsed, done, total)
                slot = replace(slot, busy=True, busy_for=left)
            slots.append(slot)
    return slots


def _is_loopback(address: str) -> bool:
    """Return whether a node that connects from `address` is on the daemon's machine."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def ready_task(
    record: ReadyRecord, passed_over: float = 0.0, models: Mapping[str, ModelFacts] | None = None
) -> ReadyTask:
    """Turn a ready task from the store into the value that placement reads.

    Args:
        record: The task as the store returns it.
        passed_over: The seconds for which the task has waited for a faster device, although another device was free.
        models: Facts about models, by model name. With them the function computes how many bytes a device has to load.
    """
    task = record.task
    facts = (models or {}).get(task.model)
    return ReadyTask(
        task_id=task.id,
        job_id=task.job_id,
        key=task.key,
        priority=record.priority,
        created_at=record.job_created_at,
        order=task.position,
        model=task.model,
        weights=task.weights,
        vram_bytes=task.vram_bytes,
        fp8=task.fp8,
        failed_on=task.failed_devices,
        flops=task.flops,
        inputs=record.input_bytes,
        passed_over=passed_over,
        load_bytes=facts.load_bytes(task.kind, precision_of(record.shared)) if facts else 0,
        group=task.group,
    )


def members_of(group: Iterable[GroupMember]) -> list[LockstepTask]:
    """Turn the unfinished tasks of a lockstep group into the values that placement reads."""
    return [
        LockstepTask(
            task_id=one.task_id,
            key=one.key,
            vram_bytes=one.vram_bytes,
            held_bytes=one.held_bytes,
            flops=one.flops,
            on=(one.node_id, one.device) if one.node_id else None,
        )
        for one in group
    ]
