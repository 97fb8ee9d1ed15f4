"""A regular audit that finds attempts that are recorded as running although no renderer works on them.

Usually an expired lease or an agent's report ends such an attempt before the audit finds it. So each attempt that the
audit finds points to a bug in the farm.
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
    """Find attempts that are recorded as running although no renderer works on them.

    Times are in seconds of the daemon's CLOCK_BOOTTIME. If a node isn't connected, an attempt of the node counts as
    running until its lease runs out.

    Args:
        live: All attempts that have not ended.
        held: The attempts that each connected node named in its last heartbeat, by node id.
        since: The first value that the previous call returned.
        patience: The seconds that an attempt may lack a renderer before it is reported.

    Returns:
        A dict from each found attempt's id to the time when an audit first found it, and a list of the attempts that
        have lacked a renderer for at least `patience` seconds.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
