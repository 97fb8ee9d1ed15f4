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
    """Return the devices that this node lends: those that the config declares or, if it declares none, those found."""
    threads = config.threads or len(os.sched_getaffinity(0))
    if not config.device:
        return probe.probe(threads)
    found = probe.probe(threads) if any(device.backend != "cpu" for device in config.device) else []
    return declared(config.device, found, threads, measure_thread_flops())


def declared(
    devices: Sequence[DeclaredDevice], found: Sequence[ProbedDevice], threads: int, thread_flops: float
) -> list[ProbedDevice]:
    """Return the declared devices, with the model name, driver and speed of the real device behind each, if any.

    `found`: the real devices. `threads`: CPU threads, which devices that declare no threads share equally.
    `thread_flops`: the speed of one CPU thread, in FLOPs a second.
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
