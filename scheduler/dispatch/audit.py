"""Whether somebody works on each running attempt: the farm's promise to itself, looked at again and again. Pure.

Leases and the word of agents see to it at once. What is found here was missed by them, and is a defect of the farm's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from farm.records import AttemptRecord
from farm.states import AttemptState

Ref = tuple[str, int]
"""An attempt's id and epoch."""


def missed(
    live: Sequence[AttemptRecord],
    held: Mapping[str, Collection[Ref]],
    since: Mapping[str, float],
    now: float,
    patience: float,
) -> tuple[dict[str, float], list[AttemptRecord]]:
    """Since when nobody has worked on each running attempt of `live`, and those for which that has lasted `patience`.

    `held`: what the last heartbeat of each connected node named, by node id. What a node that isn't connected has in hand
    nobody knows: its attempts are taken to be there until they are given away, at their `lease_until`. `since`: what the
    last look returned. `now` and `patience` in seconds of the daemon's CLOCK_BOOTTIME.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
