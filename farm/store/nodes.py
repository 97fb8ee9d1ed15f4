"""Transactions about nodes and their devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from farm.policy.failures import Cause
from farm.records import AttemptRecord, DeviceRecord, DrainRecord, NodeRecord
from farm.states import DrainState, NodeState
from farm.store import cordons, endings, quarantine, rows, speeds, tables
from farm.store.changes import move_node, write_event
from farm.store.database import Database
from farm.store.errors import NodeInUse, NotFound
from farm.store.rows import AnyRow
from farm.store.tables import attempts, nodes
from farm.store.transaction import Transaction


class Nodes:
    """Records the farm's workstations, what each offers, and when the farm last heard from it."""

    def __init__(self, database: Database):
        self._database = database

    def hello(
        self,
        node_id: str,
        name: str,
        address: str,
        version: str,
        boot_id: str,
        devices: Sequence[DeviceRecord],
        models: Iterable[tuple[str, str]] = (),
        ray_node_id: str = "",
        reason: str = "",
        held: Collection[tuple[str, int]] = (),
        owner_reason: str = "",
    ) -> list[AttemptRecord]:
        """Record what a node reports when it joins the farm, and mark the node as online.

        The attempts that the node has lost are ended.

        Args:
            version: The version of the node's software.
            boot_id: An id of the machine that changes whenever the machine boots.
            devices: The devices that the node offers.
            models: The models that the node offers. Each is a pair of the model's name and the hash of its weights.
            ray_node_id: The id of the node's raylet; "": the node has no raylet.
            reason: Why the node must get no work; "": the node may get work.
            held: The id and epoch of attempts that have ended, and whose ends the node will report next. These
                attempts never count as lost.
            owner_reason: Why the owner of the workstation allows no work on it now; "": the owner allows work.

        Returns:
            The attempts that are lost. After a reboot, these are all earlier attempts on the node. Otherwise, they are
            the attempts on devices that the node no longer offers.
        """
        said: dict[str, Any] = {
            "name": name,
            "address": address,
            "version": version,
            "boot_id": boot_id,
            "ray_node_id": ray_node_id,
            "models": [list(offer) for offer in models],
            "reason": reason,
            "owner_reason": owner_reason,
            "forgotten_at": None,
        }
        with self._database.write() as transaction:
            connection = transaction.connection
            said["last_seen_at"] = transaction.at
            known = connection.execute(select(nodes).where(nodes.c.id == node_id)).one_or_none()
            lost: list[AttemptRecord] = []
            if known is None:
                connection.execute(
                    insert(nodes).values(id=node_id, state=NodeState.ONLINE, offline_reason="", **said)
                )
                write_event(transaction, "joined", f"{name} joined the farm", node_id=node_id)
            else:
                if known.state == NodeState.OFFLINE:
                    _back_online(transaction, known, "joined" if known.forgotten_at else "online")
                _of_its_owner(transaction, known, owner_reason)
                connection.execute(update(nodes).where(nodes.c.id == node_id).values(said))
                live = rows.attempt_records(connection, rows.is_live, attempts.c.node_id == node_id)
                untold = [attempt for attempt in live if attempt.ref not in set(held)]
                if known.boot_id != boot_id:
                    write_event(transaction, "rebooted", f"{name} was rebooted", node_id=node_id)
                    why = "the node was rebooted"
                else:
                    there = {device.name for device in devices}
                    untold = [attempt for attempt in untold if attempt.device not in there]
                    why = f"the node {name} no longer offers {', '.join(sorted({one.device for one in untold}))}"
                if untold:
                    lost = endings.end_all(transaction, untold, why)
            speeds.forget_replaced(transaction, node_id, devices)
            connection.execute(delete(tables.devices).where(tables.devices.c.node_id == node_id))
            if offered := [_advertised(node_id, device) for device in devices]:
                connection.execute(insert(tables.devices), offered)
            return lost

    def seen(self, node_id: str, ray_node_id: str = "", owner_reason: str = "") -> None:
        """Record a sign of life from a node. An offline node comes online again.

        A node that was removed with `forget` stays removed until it says hello.

        Args:
            ray_node_id: The id of the node's raylet; "": the node has no raylet.
            owner_reason: Why the owner of the workstation allows no work on it now; "": the owner allows work.

        Raises:
            NotFound: There is no such node.
        """
        heard = {"ray_node_id": ray_node_id, "owner_reason": owner_reason}
        with self._database.write() as transaction:
            connection = transaction.connection
            known = _node(connection, node_id)
            if known.forgotten_at:
                return
            if known.state == NodeState.OFFLINE:
                _back_online(transaction, known)
            _of_its_owner(transaction, known, owner_reason)
            connection.execute(
                update(nodes).where(nodes.c.id == node_id).values(**heard, last_seen_at=transaction.at)
            )

    def offline(self, node_id: str, reason: str) -> None:
        """Mark a node as offline, because the farm hears nothing from it. An offline node gets no work.

        The node's attempts end later, when their leases run out. Raises NotFound.
        """
        with self._database.write() as transaction:
            known = _node(transaction.connection, node_id)
            if known.state == NodeState.ONLINE:
                move_node(transaction, node_id, known.state, NodeState.OFFLINE, offline_reason=reason)
                write_event(transaction, "offline", f"{known.name} is offline: {reason}", node_id=node_id)

    def leaves(self, node_id: str, reason: str) -> None:
        """Record that the node's agent is about to end. Raises NotFound.

        The node gets no work until it joins the farm again (`hello`).
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            _node(connection, node_id)
            connection.execute(update(nodes).where(nodes.c.id == node_id).values(reason=reason))

    def left(self, node_id: str, held: Collection[tuple[str, int]] = ()) -> list[AttemptRecord]:
        """Record that the node runs no renderer, raylet or attempt any more. A draining node is then drained.

        Attempts that still count as running on the node are ended, and their tasks are tried again.

        Args:
            held: The id and epoch of attempts that have ended, and whose ends the node will report next. This call
                doesn't end these attempts. While any of them counts as running, the node stays draining.

        Returns:
            The attempts that were ended.

        Raises:
            NotFound: There is no such node.
        """
        here = rows.is_live, attempts.c.node_id == node_id
        with self._database.read() as connection:
            drain = cordons.of(connection, node_id)
            if not rows.attempt_records(connection, *here) and (
                not drain or drain.state == DrainState.DRAINED
            ):
                return []  # as every heartbeat of a drained node says
        with self._database.write() as transaction:
            connection = transaction.connection
            known = _node(connection, node_id)
            live = rows.attempt_records(connection, *here)
            over = [attempt for attempt in live if attempt.ref not in set(held)]
            why = "the node has left the farm"
            given_back = [endings.end(transaction, attempt, Cause.GIVEN_BACK, why)[0] for attempt in over]
            if len(over) == len(live):
                cordons.empty(transaction, node_id, known.name)
            return given_back

    def drain(
        self, node_id: str, grace: float | None = None, reason: str = "", asked_by: str = ""
    ) -> DrainRecord:
        """Start to drain the node, so that it gets no more work, and return the drain.

        If the node is draining already, the new deadline, reason and requester replace the old ones. If the node is
        already drained, nothing changes.

        Args:
            grace: The number of seconds from now during which the node's attempts may still run. None: they run until
                they end by themselves.
            reason: Why the node is drained, for people.
            asked_by: Who asked for the drain.

        Raises:
            NotFound: There is no such node.
        """
        with self._database.write() as transaction:
            name = _node(transaction.connection, node_id).name
            return cordons.begin_drain(transaction, node_id, name, grace, reason, asked_by)

    def clock_began_anew(self) -> None:
        """Correct the deadlines of drains, after the daemon was restarted or had no database for a while.

        Deadlines are in CLOCK_BOOTTIME seconds. This clock starts at 0 whenever the machine boots, so after a reboot an
        old deadline can be much too late. So no deadline may be further away than the drain's whole grace period: a
        later deadline is moved to now plus that period.
        """
        with self._database.write() as transaction:
            cordons.clock_began_anew(transaction)

    def resume(self, node_id: str, device: str = "") -> tuple[bool, list[str]]:
        """Let a node, or one of its devices, take work again.

        Args:
            device: The name of the device whose quarantine ends. "": the node's drain and the quarantines of all its
                devices end.

        Returns:
            A pair. First, whether a drain was ended. Second, the names of the devices whose quarantine was ended.

        Raises:
            NotFound: There is no such node or device.
        """
        with self._database.write() as transaction:
            known = _node(transaction.connection, node_id, device)
            drained = not device and cordons.end_drain(transaction, node_id, known.name)
            back = quarantine.lift(transaction, node_id, device)
            for name in back:
                message = f"{known.name}/{name} gets work again"
                write_event(transaction, "resumed", message, node_id=node_id)
            return drained, back

    def lock(self, node_id: str, device: str = "", reason: str = "", asked_by: str = "") -> None:
        """Lock a device, or the whole node if `device` is "". Raises NotFound.

        A locked device gets no new work. Its running attempts go on, and its models stay loaded.
        """
        with self._database.write() as transaction:
            name = _node(transaction.connection, node_id, device).name
            cordons.lock(transaction, node_id, name, device, reason, asked_by)

    def unlock(self, node_id: str, device: str = "") -> list[str]:
        """Unlock a device, or the node and all its devices if `device` is "".

        Returns:
            The names of the devices that were unlocked. The list contains "" if the node as a whole was locked.

        Raises:
            NotFound: There is no such node or device.
            NodeInUse: `device` was given, but the node is locked as a whole.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            name = _node(connection, node_id, device).name
            if device and cordons.is_locked(connection, node_id):
                raise NodeInUse(
                    name,
                    "is locked as a whole, so a single device can't be unlocked; unlock the whole node with "
                    f"`farmctl node unlock {name}`",
                )
            return cordons.unlock(transaction, node_id, name, device)

    def forget(self, node_id: str) -> None:
        """Remove the node from the farm. If the node's agent contacts the farm anew (`hello`), the node joins again.

        Past attempts and events still show the node's name.

        Raises:
            NotFound: There is no such node.
            NodeInUse: The node is online and not drained, or it has live attempts.
        """
        with self._database.write() as transaction:
            connection = transaction.connection
            known = _node(connection, node_id)
            drain = cordons.of(connection, node_id)
            if known.state == NodeState.ONLINE and not (drain and drain.state == DrainState.DRAINED):
                how = f"first run `farmctl node drain {known.name}`, or end farm-node on that machine"
                raise NodeInUse(known.name, f"is online; {how}")
            if live := rows.attempt_records(connection, rows.is_live, attempts.c.node_id == node_id):
                what = ", ".join(attempt.task_key for attempt in live)
                raise NodeInUse(
                    known.name,
                    f"could still be rendering {what}. Wait until the node is offline and the farm has put these "
                    "tasks back in the queue. Then try again",
                )
            if known.state == NodeState.ONLINE:
                move_node(
                    transaction,
                    node_id,
                    known.state,
                    NodeState.OFFLINE,
                    offline_reason="was removed from the farm",
                )
            for table in (
                tables.devices,
                tables.speeds,
                tables.strikes,
                tables.quarantines,
                tables.drains,
                tables.locks,
            ):
                connection.execute(delete(table).where(table.c.node_id == node_id))
            gone = {"forgotten_at": transaction.at, "models": [], "ray_node_id": ""}
            connection.execute(update(nodes).where(nodes.c.id == node_id).values(gone))
            write_event(transaction, "forgotten", f"{known.name} is forgotten", node_id=node_id)

    def list(self) -> list[NodeRecord]:
        """Return all nodes, sorted by name."""
        with self._database.read() as connection:
            return rows.node_records(connection)

    def get(self, node_id: str) -> NodeRecord:
        """Return one node. Raises NotFound."""
        with self._database.read() as connection:
            found = rows.node_records(connection, nodes.c.id == node_id)
        if not found:
            raise NotFound("node", node_id)
        return found[0]

    def weights_of(self, model: str) -> dict[str, int]:
        """Return how many nodes offer a model, counted separately for each version of the model's weights.

        Only online nodes count. If no online node offers the model, offline nodes count instead.

        Returns:
            A dict from the hash of each version of the weights to the number of nodes that offer that version. Empty
            if no node offers the model.
        """
        with self._database.read() as connection:
            known = connection.execute(select(nodes.c.state, nodes.c.models)).all()
        for state in (NodeState.ONLINE, NodeState.OFFLINE):
            counts = Counter(
                weights
                for node in known
                if node.state == state
                for weights in {weights for name, weights in node.models if name == model}
            )
            if counts:
                return dict(counts)
        return {}


def _node(connection: Connection, node_id: str, device: str = "") -> AnyRow:
    """Return the node. Raises NotFound, also for a `device` that it doesn't offer."""
    row = connection.execute(select(nodes).where(nodes.c.id == node_id)).one_or_none()
    if row is None:
        raise NotFound("node", node_id)
    if device:
        of_node = select(tables.devices.c.name).where(tables.devices.c.node_id == node_id)
        offered = connection.scalars(of_node).all()
        if device not in offered:
            raise NotFound(f"device of the node {row.name}", device, known=offered)
    return row


def _back_online(transaction: Transaction, node: AnyRow, kind: str = "online") -> None:
    move_node(transaction, node.id, node.state, NodeState.ONLINE, offline_reason="")
    write_event(transaction, kind, f"{node.name} is back", node_id=node.id)


def _of_its_owner(transaction: Transaction, node: AnyRow, reason: str) -> None:
    """Write the event that a node's owner lets it take work, or no longer does, if that is new."""
    if reason != node.owner_reason:
        message = f"{node.name} takes no work: it {reason}" if reason else f"{node.name} takes work again"
        write_event(transaction, "owner", message, node_id=node.id)


def _advertised(node_id: str, device: DeviceRecord) -> dict[str, Any]:
    said = asdict(device)
    del said["task"], said["speeds"], said["quarantine"], said["lock"]
    return said | {"node_id": node_id}
