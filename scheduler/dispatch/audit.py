"""A regular audit that finds attempts that the store calls running, although no renderer runs them.

Usually an expired lease or an agent's report ends such an attempt before the audit runs. So each attempt that the audit
finds points to a bug in the farm.
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
    """Find attempts that the store calls running, although no renderer runs them.

    Times are in seconds of the daemon's CLOCK_BOOTTIME. A node that isn't connected can't name its attempts. So this
    function doesn't return an attempt of such a node until the attempt's lease has run out.

    Args:
        live: All attempts that have not ended.
        held: A dict from each connected node's id to the attempts that the node named in its last heartbeat.
        since: The dict that the previous call returned.
        patience: The seconds that an attempt may lack a renderer before it is reported.

    Returns:
        A dict from the id of each found attempt to the time when an audit first found this attempt; and a list of the
        attempts that were first found at least `patience` seconds ago.
    """

    def in_hand(one: AttemptRecord) -> bool:
        named = held.get(one.node_id)
        return now < one.lease_until if named is None else one.ref in named

    running = (one for one in live if one.state is AttemptState.RUNNING)
    unknown = [one for one in running if not in_hand(one)]
    still = {one.id: since.get(one.id, now) for one in unknown}
    return still, [one for one in unknown if now - still[one.id] >= patience]
