"""Estimate how fast each device is with each model: as measured, or else from what the device advertises.

Pure. A probe tells what the silicon could do; a measurement tells what it does, which is often less than half of
that. So the claim of a device that wasn't measured is scaled by how the claims of measured devices turned out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from farm.records import DeviceRecord, NodeRecord


def rates(nodes: Iterable[NodeRecord]) -> dict[tuple[str, str], dict[str, float]]:
    """Return FLOPs a second by (node id, device) and model, for each model that the device's node offers.

    Without a measurement, the rate is what the device advertises times a factor: measured over advertised rate of
    other devices of its backend with that model; else of the device itself with other models; else of others with any
    model; else 1. A model is left out if the device advertises nothing.
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
