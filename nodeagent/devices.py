"""The devices that this node lends to the farm: those that the config declares, or those that the probe finds."""

from __future__ import annotations

import os
from collections.abc import Sequence

from farm.config import DeclaredDevice, NodeConfig
from farm.v1 import nodes_pb2
from nodeagent import probe
from nodeagent.flops import measure_thread_flops
from nodeagent.probe import ProbedDevice


def lent(config: NodeConfig) -> list[ProbedDevice]:
    """Return the devices that this node lends: all declared in the config or, if there are none, all found."""
    threads = config.threads or len(os.sched_getaffinity(0))
    if not config.device:
        return probe.probe(threads)
    found = probe.probe(threads) if any(device.backend != "cpu" for device in config.device) else []
    return declared(config.device, found, threads, measure_thread_flops())


def declared(
    devices: Sequence[DeclaredDevice], found: Sequence[ProbedDevice], threads: int, thread_flops: float
) -> list[ProbedDevice]:
    """Return the declared devices. Each gets the model name, driver and speed of its real device, if it has one.

    Args:
        devices: The devices that the config declares.
        found: The real devices of this machine.
        threads: CPU threads of the node. A device that declares no threads gets an equal part of them.
        thread_flops: The speed of one CPU thread in FLOPs a second, for devices without a real device.
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
