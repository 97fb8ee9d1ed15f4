"""What the virtual farm is made of and what it tells of a job that ran on it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from virtual_work import OUTPUTS, Name

from farm.planning import PlannedTask


@dataclass(frozen=True)
class Device:
    """A device of `node` that sustains `flops_per_second` and holds `vram_bytes`; it has the job's models.

    `local`: its node is the daemon's host, so that what it fetches and stores goes over no network.
    """

    node: str
    flops_per_second: float
    vram_bytes: int
    fp8: bool = True
    name: str = "cuda0"
    local: bool = False


@dataclass(frozen=True)
class Network:
    """Links of `bytes_per_second` each way; a transfer begins `latency` seconds after it is asked for."""

    bytes_per_second: float = 117e6  #: 1 GbE without the frames of Ethernet, IP and TCP
    latency: float = 1e-3


@dataclass(frozen=True)
class Attempt:
    """A task as it ran. Seconds since the job was submitted; bytes that went over the network."""

    task: PlannedTask
    device: Device
    start: float  #: handed to the device
    began: float  #: its inputs were there
    computed: float
    end: float  #: its artifacts were with the farm
    downloaded: Mapping[Name, int]
    uploaded: Mapping[Name, int]


@dataclass(frozen=True)
class Run:
    """A job that ran: its attempts, in the order of their ends."""

    attempts: tuple[Attempt, ...]

    @property
    def seconds(self) -> float:
        """From submit to the end of the last task."""
        return max((attempt.end for attempt in self.attempts), default=0.0)

    def bytes_moved(self, *, outputs: bool) -> int:
        """Bytes that went over the network: of outputs, or of everything else."""
        return sum(
            size
            for attempt in self.attempts
            for moved in (attempt.downloaded, attempt.uploaded)
            for (_, name), size in moved.items()
            if (name in OUTPUTS) is outputs
        )

    def critical_path(self) -> tuple[Attempt, ...]:
        """What the end waited for, from the start on: each began when the one before it ended.

        That is an attempt it needed, or else the one that held its device until then, or else one whose end let the
        farm see that waiting for a better device would no longer pay.
        """
        path = list(self.attempts[-1:])
        while path and path[0].start > 0:
            head = path[0]
            before = self.attempts[: self.attempts.index(head)]
            causes = [a for a in before if a.end == head.start]
            causes += [a for a in causes if a.device == head.device]
            causes += [a for a in before if a.end == head.start and a.task.key in head.task.needs]
            path.insert(0, causes[-1])
        return tuple(path)
