"""Estimates how fast each device is with each model.

Each device advertises the rate that a probe of its hardware finds. Real tasks often reach less than half of this rate,
so a rate that was measured with real tasks is preferred. Without a measurement, the advertised rate is multiplied
by a typical ratio of measured to advertised rate (see `rates`).

Pure: this module does no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from statistics import median

from farm.records import DeviceRecord, NodeRecord


def rates(nodes: Iterable[NodeRecord]) -> dict[tuple[str, str], dict[str, float]]:
    """Return how many FLOPs a second each device reaches with each model that its node offers.

    A measured rate is returned as it is. Without a measurement, the rate is the device's advertised rate times a
    factor. The factor is the median of (measured rate / advertised rate) over a set of measurements. There are three
    such sets; the first that isn't empty is used:

    1. measurements of this model on all devices with the same backend
    2. measurements of all models on this device
    3. measurements of all models on all devices with the same backend

    If all three sets are empty, the factor is 1. If the device advertises no rate, only measured rates are returned.

    Returns:
        A dict from (node id, device name) to a dict from model name to FLOPs a second.
    """
    nodes = list(nodes)
    shares: dict[tuple[str, ...], list[float]] = defaultdict(list)
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


def _groups(node: NodeRecord, device: DeviceRecord, model: str) -> tuple[tuple[str, ...], ...]:
    """Whose measurements tell of this device with this model; the first that has any counts."""
    return ("model", device.backend, model), ("device", node.id, device.name), ("backend", device.backend)
