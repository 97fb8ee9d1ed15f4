"""Locks and drains: two ways in which people keep new work away from nodes and devices.

A lock only keeps new work away: running attempts go on, and models stay loaded. A drain does more: once the node runs
no attempts, its renderers and its Ray process end too. The functions work within the caller's transaction.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, exists, insert, select, update

from farm.records import DrainRecord
from farm.states import DrainState
from farm.store import rows
from farm.store.changes import move_drain, write_event
from farm.store.tables import drains, locks
from farm.store.transaction import Transaction


def takes_no_more(connection: Connection, node_id: str, device: str) -> bool:
    """Return whether a device must get no new work, because of a lock or a drain."""
    drained = select(exists().where(drains.c.node_id == node_id))
    locked = select(exists().where(locks.c.node_id == node_id, locks.c.device.in_(("", device))))
    return bool(connection.scalar(drained) or connection.scalar(locked))


def begin_drain(
    transaction: Transaction,
    node_id: str,
    name: str,
    grace: float | None,
    reason: str,
    asked_by: str,
) -> DrainRecord:
    """Start draining a node, and return the drain.

    If the node is draining already, the new deadline, reason and requester replace the old. If the node is already
    drained, nothing changes, and its drain is returned.

    Args:
        name: The node's name, for the farm's list of events.
        grace: The number of seconds from now during which the node's attempts may still run. None: they run until they
            end by themselves.
        reason: Why the node is drained, for people.
        asked_by: Who asked for the drain.
    """
    connection = transaction.connection
    known = of(connection, node_id)
    if known and known.state == DrainState.DRAINED:
        return known
    said = {"reason": reason, "asked_by": asked_by, "grace": grace}
    said["deadline"] = None if grace is None else transaction.now + grace
    if known:
        connection.execute(update(drains).where(drains.c.node_id == node_id).values(said))
    else:
        row = {"node_id": node_id, "state": DrainState.DRAINING, "since_at": transaction.at, **said}
        connection.execute(insert(drains).values(row))
    message = f"{name} is being drained{_for(reason, asked_by)}; {_until(grace)}"
    write_event(transaction, "draining", message, node_id=node_id)
    drain = of(connection, node_id)
    assert drain is not None
    return drain


def end_drain(transaction: Transaction, node_id: str, name: str) -> bool:
    """End the node's drain, so that the node takes work again. Return False if the node had no drain."""
    if not transaction.connection.execute(delete(drains).where(drains.c.node_id == node_id)).rowcount:
        return False
    write_event(transaction, "resumed", f"{name} is to serve again", node_id=node_id)
    return True


def empty(transaction: Transaction, node_id: str, name: str) -> bool:
    """Record that nothing of the farm runs on the node any more: no attempt, no renderer, no Ray process.

    Returns True if this completes the node's drain. Returns False if the node has no drain, or was drained already.
    """
    drain = of(transaction.connection, node_id)
    if drain is None or drain.state == DrainState.DRAINED:
        return False
    move_drain(transaction, node_id, drain.state, DrainState.DRAINED)
    write_event(transaction, "drained", f"{name} is drained", node_id=node_id)
    return True


def clock_began_anew(transaction: Transaction) -> None:
    """Correct the deadlines of drains, after the daemon was restarted or had no database for a while.

    Deadlines are in CLOCK_BOOTTIME seconds. That clock starts at 0 when the machine boots, so after a reboot an old
    deadline can be much too late. So no deadline may be further away than the drain's whole grace period: a later
    deadline is moved to now plus that period.
    """
    connection = transaction.connection
    for node_id, drain in rows.drain_records(connection, drains.c.deadline > transaction.now).items():
        assert drain.deadline is not None and drain.grace is not None  # those without were not asked for
        deadline = min(drain.deadline, transaction.now + drain.grace)
        connection.execute(update(drains).where(drains.c.node_id == node_id).values(deadline=deadline))


def of(connection: Connection, node_id: str) -> DrainRecord | None:
    """Return the node's drain; None if the node has no drain."""
    return rows.drain_records(connection, drains.c.node_id == node_id).get(node_id)


def lock(transaction: Transaction, node_id: str, name: str, device: str, reason: str, asked_by: str) -> None:
    """Lock a device, or the whole node if `device` is "".

    A locked device or node gets no new work until it is unlocked. An existing lock is replaced.
    """
    connection = transaction.connection
    connection.execute(delete(locks).where(locks.c.node_id == node_id, locks.c.device == device))
    row = {
        "node_id": node_id,
        "device": device,
        "reason": reason,
        "asked_by": asked_by,
        "since_at": transaction.at,
    }
    connection.execute(insert(locks).values(row))
    message = f"{_place(name, device)} is locked{_for(reason, asked_by)}"
    write_event(transaction, "locked", message, node_id=node_id)


def unlock(transaction: Transaction, node_id: str, name: str, device: str) -> list[str]:
    """Unlock a device, or the node and all its devices if `device` is "".

    Returns the names of the devices that were locked. The list contains "" if the node as a whole was locked.
    """
    connection = transaction.connection
    which = [locks.c.node_id == node_id, *([locks.c.device == device] if device else [])]
    found = sorted(connection.scalars(select(locks.c.device).where(*which)).all())
    connection.execute(delete(locks).where(*which))
    for one in found:
        write_event(transaction, "unlocked", f"{_place(name, one)} is unlocked", node_id=node_id)
    return found


def is_locked(connection: Connection, node_id: str) -> bool:
    """Return whether the node as a whole is locked."""
    this = locks.c.node_id == node_id, locks.c.device == ""
    return bool(connection.scalar(select(exists().where(*this))))


def _place(name: str, device: str) -> str:
    return f"{name}/{device}" if device else name


def _for(reason: str, asked_by: str) -> str:
    return (f" by {asked_by}" if asked_by else "") + (f" ({reason})" if reason else "")


def _until(grace: float | None) -> str:
    if grace is None:
        return "what it runs is finished"
    return f"what it still runs after {grace:g} s is handed back" if grace else "what it runs is handed back"
