"""A repeated audit that finds running attempts on which no renderer works. Pure.

Leases and the reports of agents end most dead attempts at once. If the audit finds an attempt, both have missed it,
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
    """Return the running attempts of `live` on which no renderer works, and those of them past `patience`.

    The first value maps the id of each such attempt to the time since when no renderer works on it; pass it as `since`
    to the next call. `held` maps the id of each connected node to the attempts that the node's last heartbeat named. If
    a node isn't connected, nobody knows what its renderers do: they are taken to work on its attempts until the
    attempts' `lease_until`, after which other devices get the tasks. Times and `patience` are in seconds of the
    daemon's CLOCK_BOOTTIME.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
