"""Finds out which devices this node lends to the farm."""

from __future__ import annotations

import os
from collections.abc import Sequence

from farm.config import DeclaredDevice, NodeConfig
from farm.v1 import nodes_pb2
from nodeagent import probe
from nodeagent.flops import measure_thread_flops
from nodeagent.probe import ProbedDevice


def lent(config: NodeConfig) -> list[ProbedDevice]:
    """Return the devices that this node lends to the farm.

    If the config declares devices, these are lent. Otherwise all devices are lent that a probe of the machine finds.
    """
    threads = config.threads or len(os.sched_getaffinity(0))
    if not config.device:
        return probe.probe(threads)
    found = probe.probe(threads) if any(device.backend != "cpu" for device in config.device) else []
    return declared(config.device, found, threads, measure_thread_flops())


def declared(
    devices: Sequence[DeclaredDevice], found: Sequence[ProbedDevice], threads: int, thread_flops: float
) -> list[ProbedDevice]:
    """Return the devices that the config declares, completed with what the probe has found.

    A declared device takes its model name, driver and speed from a found device of the same backend. The first declared
    device of a backend takes them from the found device with index 0, the second from the one with index 1, and so on.

    Args:
        devices: The devices that the config declares.
        found: The devices that the probe has found.
        threads: CPU threads of the node. A device that declares no threads gets an equal part of them.
        thread_flops: The speed of one CPU thread in FLOPs a second. If no found device gives a speed, the declared
            device's speed is `thread_flops` times the device's threads.
    """
    real = {(device.advertised.backend, device.index): device.advertised for device in found}
    counts: dict[str, int] = {}
    lent = []
    for device in devices:
        index = counts.get(device.backend, 0)
        counts[device.backend] = index + 1
        behind = real.get((device.backend, index), nodes_pb2.Device())
        own = device.threads or max(1, threads // len(devices))
        advertised = nodes_pb2.Device(
            name=device.name,
            backend=device.backend,
            model=behind.model or "declared",
            vram_bytes=device.vram_bytes,
            compute_capability=device.compute_capability,
            fp8=device.fp8,
            driver=behind.driver,
            declared=True,
            flops_per_second=behind.flops_per_second or thread_flops * own,
            threads=own,
        )
        lent.append(ProbedDevice(advertised, index))
    return lent
