"""Records how fast each device denoises with each model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from farm.plan import TaskKind
from farm.records import AttemptRecord, DeviceRecord, Speed
from farm.store.tables import devices, speeds, tasks
from farm.store.transaction import Transaction

REMEMBERED = 8
"""The average follows about so many windows: a driver's update or a warm summer shows, a single hiccup doesn't."""


def note(transaction: Transaction, attempt: AttemptRecord, working_seconds: float) -> None:
    """Record how fast a device denoised a window whose result the farm has accepted.

    Windows of a storyboard (a small draft of the whole video) aren't recorded, because every device does fewer FLOPs a
    second with such small windows.

    Args:
        transaction: The transaction in which the farm accepts the result.
        attempt: The attempt that made the window.
        working_seconds: The time from the first step to the end. It excludes loading the model and fetching inputs.
    """
    connection = transaction.connection
    kind = connection.scalar(select(tasks.c.kind).where(tasks.c.id == attempt.task_id))
    if kind != TaskKind.WINDOW or working_seconds <= 0 or attempt.flops <= 0:
        return
    seen = attempt.flops / working_seconds
    key = {"node_id": attempt.node_id, "device": attempt.device, "model": attempt.model}
    this = (
        (speeds.c.node_id == attempt.node_id)
        & (speeds.c.device == attempt.device)
        & (speeds.c.model == attempt.model)
    )
    known = connection.execute(select(speeds.c.flops_per_second, speeds.c.windows).where(this)).one_or_none()
    if known is None:
        connection.execute(insert(speeds).values(**key, flops_per_second=seen, windows=1))
        return
    weight = 1 / min(known.windows + 1, REMEMBERED)
    average = known.flops_per_second + weight * (seen - known.flops_per_second)
    connection.execute(update(speeds).where(this).values(flops_per_second=average, windows=known.windows + 1))


def forget_replaced(transaction: Transaction, node_id: str, offered: Sequence[DeviceRecord]) -> None:
    """Delete the measured speeds of a node's devices that are gone or have changed.

    A device has changed if its backend, its model or its number of threads differs from before.

    Args:
        offered: The devices that the node has now.
    """
    connection = transaction.connection
    same = {(device.name, device.backend, device.model, device.threads) for device in offered}
    for row in connection.execute(
        select(devices.c.name, devices.c.backend, devices.c.model, devices.c.threads).where(
            devices.c.node_id == node_id
        )
    ).all():
        if tuple(row) not in same:
            connection.execute(delete(speeds).where(speeds.c.node_id == node_id, speeds.c.device == row.name))


def measured(connection: Connection) -> dict[tuple[str, str], tuple[Speed, ...]]:
    """Return the measured speeds of all devices.

    Returns:
        A mapping. Each key is a pair of node id and device name. Each value is the speeds of that device, one for each
        model. A device with no measured speed is not in the mapping.
    """
    found: dict[tuple[str, str], list[Speed]] = defaultdict(list)
    for row in connection.execute(select(speeds).order_by(speeds.c.model)):
        found[row.node_id, row.device].append(Speed(row.model, row.flops_per_second, row.windows))
    return {key: tuple(of) for key, of in found.items()}
