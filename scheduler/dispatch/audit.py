"""Check again and again that some renderer works on each running attempt. Pure.

Leases and the reports of agents end most dead attempts at once. An attempt that this audit finds was missed by both,
which is a defect of the farm.
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
    """Return since when no renderer has worked on each running attempt of `live`, and the attempts past `patience`.

    `held` maps each connected node's id to the attempts that its last heartbeat named. For a node that isn't
    connected nobody knows what it has in hand: its attempts count as in hand until their `lease_until`, when they are
    given to other devices. `since` is what the last call returned. `now` and `patience` are in seconds of the
    daemon's CLOCK_BOOTTIME.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
