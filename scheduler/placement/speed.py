"""Estimate how fast each device is with each model: as measured, or else from the rate that the device advertises.

Pure. A device advertises the rate that a probe of its hardware finds; the rate measured in real tasks is often less
than half of that. So, for a device without a measurement, the advertised rate is scaled by the ratio of measured to
advertised rate of other devices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from farm.records import DeviceRecord, NodeRecord


def rates(nodes: Iterable[NodeRecord]) -> dict[tuple[str, str], dict[str, float]]:
    """Return FLOPs a second by (node id, device) and model, for each model that the device's node offers.

    Without a measurement, the rate is the device's advertised rate times a factor. The factor is the median ratio of
    measured to advertised rate: of devices with the same backend and this model; if there are none, of the device
    itself with other models; else of devices with the same backend and any model; else 1. If the device advertises no
    rate, models without a measurement are left out.
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
