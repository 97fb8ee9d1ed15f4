"""Transactions about nodes and their devices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from farm.store.database import Database
from farm.store.records import AttemptRecord, DeviceRecord, NodeRecord


class Nodes:
    """Keeps which workstations there are, what they offer, and when they were last heard of."""

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
    ) -> list[AttemptRecord]:
        """Keep what a node says of itself; it is online. `models`: (model, weights hash) pairs.

        Returns the attempts lost because its boot id changed. `reason`: why it gets no work, if it gets none.
        """
        raise NotImplementedError

    def seen(self, node_id: str, ray_node_id: str = "") -> None:
        """Keep that the node was heard of, and its raylet if it has one; an offline node is online again.

        Raises NotFound.
        """
        raise NotImplementedError

    def offline(self, node_id: str, reason: str) -> None:
        """The node is silent: it gets no work. What it runs is left to its leases. Raises NotFound."""
        raise NotImplementedError

    def list(self) -> list[NodeRecord]:
        """All nodes by name."""
        raise NotImplementedError

    def get(self, node: str) -> NodeRecord:
        """One node by id or name. Raises NotFound, and AmbiguousName when several have the name."""
        raise NotImplementedError

    def weights_of(self, model: str) -> dict[str, int]:
        """Hashes of the weights on offer for `model`, each with how many nodes offer it.

        Online nodes count; where none of them offers the model, offline ones do.
        """
        raise NotImplementedError
