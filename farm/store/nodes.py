"""Transactions about nodes and their devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from farm.failures import USUAL_TERMS, Terms
from farm.states import NodeState
from farm.store import endings, quarantine, rows, speeds, tables
from farm.store.changes import move_node, write_event
from farm.store.database import Database
from farm.store.errors import AmbiguousName, NotFound
from farm.store.records import AttemptRecord, DeviceRecord, NodeRecord
from farm.store.tables import attempts, nodes


class Nodes:
    """Keeps which workstations there are, what they offer, and when they were last heard of."""

    def __init__(self, database: Database, terms: Terms = USUAL_TERMS):
        self._database, self._terms = database, terms

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
    ) -> list[AttemptRecord]:
        """Keep what a node says of itself; it is online. `models`: (model, weights hash) pairs.

        Returns the attempts lost because its boot id changed. `reason`: why it gets no work, if it gets none.
        """
        at = self._database.wall()
        said = {
            "name": name,
            "address": address,
            "version": version,
            "boot_id": boot_id,
            "ray_node_id": ray_node_id,
            "models": [list(offer) for offer in models],
            "reason": reason,
            "last_seen_at": at,
        }
        with self._database.write() as connection:
            known = connection.execute(select(nodes).where(nodes.c.id == node_id)).one_or_none()
            lost: list[AttemptRecord] = []
            if known is None:
                connection.execute(
                    insert(nodes).values(id=node_id, state=NodeState.ONLINE, offline_reason="", **said)
                )
                write_event(connection, at, "joined", f"{name} joined the farm", node_id=node_id)
            else:
                if known.state == NodeState.OFFLINE:
                    _back_online(connection, known, at)
                connection.execute(update(nodes).where(nodes.c.id == node_id).values(said))
                if known.boot_id != boot_id:
                    write_event(connection, at, "rebooted", f"{name} was rebooted", node_id=node_id)
                    live = rows.attempt_records(connection, rows.is_live, attempts.c.node_id == node_id)
                    why = "the node was rebooted"
                    lost = endings.end_all(connection, self._database, self._terms, live, why)
            speeds.forget_replaced(connection, node_id, devices)
            connection.execute(delete(tables.devices).where(tables.devices.c.node_id == node_id))
            if offered := [_advertised(node_id, device) for device in devices]:
                connection.execute(insert(tables.devices), offered)
            return lost

    def seen(self, node_id: str, ray_node_id: str = "") -> None:
        """Keep that the node was heard of, and its raylet if it has one; an offline node is online again.

        Raises NotFound.
        """
        at = self._database.wall()
        heard = {"last_seen_at": at} | ({"ray_node_id": ray_node_id} if ray_node_id else {})
        with self._database.write() as connection:
            known = _node(connection, node_id)
            if known.state == NodeState.OFFLINE:
                _back_online(connection, known, at)
            connection.execute(update(nodes).where(nodes.c.id == node_id).values(heard))

    def offline(self, node_id: str, reason: str) -> None:
        """The node is silent: it gets no work. What it runs is left to its leases. Raises NotFound."""
        at = self._database.wall()
        with self._database.write() as connection:
            known = _node(connection, node_id)
            if known.state == NodeState.ONLINE:
                move_node(connection, node_id, known.state, NodeState.OFFLINE, offline_reason=reason)
                write_event(connection, at, "offline", f"{known.name} is offline: {reason}", node_id=node_id)

    def resume(self, node_id: str, device: str = "") -> list[str]:
        """End the quarantine of a device of the node, by name, or of all; returns those that were in it.

        Raises NotFound.
        """
        at = self._database.wall()
        with self._database.write() as connection:
            known = _node(connection, node_id)
            offered = select(tables.devices.c.name).where(tables.devices.c.node_id == node_id)
            if device and device not in connection.scalars(offered).all():
                raise NotFound(f"device of {known.name}", device)
            back = quarantine.lift(connection, node_id, device)
            for name in back:
                message = f"{known.name}/{name} gets work again"
                write_event(connection, at, "resumed", message, node_id=node_id)
            return back

    def list(self) -> list[NodeRecord]:
        """All nodes by name."""
        with self._database.read() as connection:
            return rows.node_records(connection)

    def get(self, node: str) -> NodeRecord:
        """One node by id or name. Raises NotFound, and AmbiguousName when several have the name."""
        with self._database.read() as connection:
            found = rows.node_records(connection, nodes.c.id == node)
            found = found or rows.node_records(connection, nodes.c.name == node)
        if not found:
            raise NotFound("node", node)
        if len(found) > 1:
            raise AmbiguousName(node, [one.id for one in found])
        return found[0]

    def weights_of(self, model: str) -> dict[str, int]:
        """Hashes of the weights on offer for `model`, each with how many nodes offer it.

        Online nodes count; where none of them offers the model, offline ones do.
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


def _node(connection: Connection, node_id: str) -> Row:
    row = connection.execute(select(nodes).where(nodes.c.id == node_id)).one_or_none()
    if row is None:
        raise NotFound("node", node_id)
    return row


def _back_online(connection: Connection, node: Row, at: float) -> None:
    move_node(connection, node.id, node.state, NodeState.ONLINE, offline_reason="")
    write_event(connection, at, "online", f"{node.name} is back", node_id=node.id)


def _advertised(node_id: str, device: DeviceRecord) -> dict[str, Any]:
    said = asdict(device)
    del said["task"], said["speeds"], said["quarantine"]
    return said | {"node_id": node_id}
