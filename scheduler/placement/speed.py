"""How fast each device is expected to be with each model: measured where it was, else what it says of itself.

Pure. What a probe says is what the silicon could do, what is measured is what it does, often less than half of it; so
a device that wasn't measured is not taken at its word but scaled by what became of the words of those that were.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from farm.records import DeviceRecord, NodeRecord


def rates(nodes: Iterable[NodeRecord]) -> dict[tuple[str, str], dict[str, float]]:
    """FLOPs a second by (node id, device) and model, for each model that the device's node offers.

    Not measured: what it advertises, times how others of its backend did with that model over what they advertise,
    else how it did itself with other models, else how others did with any. Nothing where that is unknown.
    """
    nodes = list(nodes)
    shares: dict[tuple, list[float]] = defaultdict(list)
    for node in nodes:
        for device in node.devices:
            for speed in device.speeds if device.flops_per_second > 0 else ():
                share = speed.flops_per_second / device.flops_per_second
                for group in _groups(node, device, speed.model):
                    shares[group].append(share)
    usual = {group: median(found) for group, found in shares.items()}

    def expected(node: NodeRecord, device: DeviceRecord, model: str) -> float:
        known = (usual[group] for group in _groups(node, device, model) if group in usual)
        return device.flops_per_second * next(known, 1.0)

    found: dict[tuple[str, str], dict[str, float]] = {}
    for node in nodes:
        for device in node.devices:
            offered = {offer.model: expected(node, device, offer.model) for offer in node.models}
            measured = {speed.model: speed.flops_per_second for speed in device.speeds}
            found[node.id, device.name] = {
                model: rate for model, rate in offered.items() if rate > 0
            } | measured
    return found


def _groups(node: NodeRecord, device: DeviceRecord, model: str) -> tuple[tuple, ...]:
    """Whose measurements tell of this device with this model; the first that has any counts."""
    return ("model", device.backend, model), ("device", node.id, device.name), ("backend", device.backend)
