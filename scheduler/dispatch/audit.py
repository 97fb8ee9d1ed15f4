"""A regular audit that finds attempts that are recorded as running, but on which no renderer works. Pure.

Usually a lease that runs out, or an agent's report, ends such an attempt first. An attempt that the audit finds shows a
bug in the farm.
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
    """Find running attempts on which no renderer works. Times are in seconds of the daemon's CLOCK_BOOTTIME.

    If a node isn't connected, its renderers are assumed to work on its attempts until the attempts' leases run out.

    Args:
        live: all attempts that have not ended.
        held: by id of a connected node, the attempts that the node's last heartbeat named.
        since: the first value that the previous call returned.
        now: the time.
        patience: seconds that an attempt may lack a renderer before it is reported.

    Returns:
        Two values. The first has an entry for each attempt that this call found: the attempt's id, and the time at
        which an audit first found it. The second lists the attempts first found `patience` seconds ago or earlier.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
