"""Whether each running attempt is in somebody's hand: the farm's promise to itself, looked at again and again. Pure.

Leases and the word of agents see to it at once. What is found here was missed by them, and is a defect of the farm's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from farm.states import AttemptState
from farm.store.records import AttemptRecord

Ref = tuple[str, int]
"""An attempt's id and epoch."""


def missed(
    live: Sequence[AttemptRecord],
    held: Mapping[str, Collection[Ref]],
    since: Mapping[str, float],
    now: float,
    patience: float,
) -> tuple[dict[str, float], list[AttemptRecord]]:
    """Since when each running attempt of `live` was in nobody's hand, and those for which that has lasted `patience`.

    `held`: what the last heartbeat of each connected node named, by node id; `since`: what the last look returned. Seconds
    of any clock that goes on.
    """
    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if one.ref not in held.get(one.node_id, ())]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
