"""The faults themselves: one function each, that does it to a FaultFarm and says what it hit.

What a fault takes away it gives back, at once or after the job (`Hit.heal`): the next one finds the farm whole.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
from fault_farm import FaultFarm
from fault_network import why_no_loss, why_not
from fault_schedule import Strike

from farm.clock import boottime

REQUEUE = 15.0
"""Seconds of silence after which a task is given to another device, as by default."""


def _nothing() -> None:
    """There is nothing to give back."""


@dataclass(frozen=True)
class Hit:
    """What a fault hit. `at`: CLOCK_BOOTTIME in s when it began; `allowed`: windows that it may cost."""

    what: str
    at: float
    allowed: int
    heal: Callable[[], None] = _nothing


def strike(farm: FaultFarm, this: Strike, job_id: str) -> Hit:
    """Does it. Returns when the fault is over, but for what `Hit.heal` ends."""
    return _KINDS[this.fault](farm, this, random.Random(this.seed), job_id)


def why_skipped(fault: str, database: str) -> str:
    """Why a fault can't be done here; empty where it can."""
    if fault == "database" and database == "sqlite":
        return "SQLite has no process of its own: what can be killed of it is the daemon"
    if fault in ("cut", "slow", "loss", "full") and (why := why_not()):
        return why
    return why_no_loss() if fault == "loss" else ""


def _victim(farm: FaultFarm, drawn: random.Random) -> int:
    """A node at work where there is one."""
    return drawn.choice(farm.busy() or farm.nodes)


def _kill(process: psutil.Process) -> float:
    at = boottime()
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
    return at


def _renderer(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node = _victim(farm, drawn)
    return Hit(f"renderer of node {node}", _kill(farm.renderer(node)), 1)


def _raylet(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node = _victim(farm, drawn)
    return Hit(f"raylet of node {node}", _kill(farm.raylet(node)), 1)


def _agent(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node, away = _victim(farm, drawn), 5.0 * this.pause
    at = _kill(psutil.Process(farm.pid(f"node-{node}")))
    time.sleep(away)
    farm.start_agent(node)
    return Hit(f"agent of node {node}, started again after {away:.1f} s", at, 0)


def _bridge(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    return Hit("bridge", _kill(farm.bridge()), 0)


def _head(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    family = farm.head()
    at = boottime()
    for process in family:
        _kill(process)
    return Hit("Ray head", at, len(farm.nodes))


def _daemon(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    away = 5.0 * this.pause
    at = _kill(psutil.Process(farm.pid("farmd")))
    time.sleep(away)
    farm.start_daemon()
    return Hit(f"daemon, started again after {away:.1f} s", at, 0)


def _database(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    away, at = 5.0 * this.pause, boottime()
    assert farm.postgres is not None  # else nobody strikes it
    farm.postgres.stop(signal.SIGKILL)
    time.sleep(away)
    farm.postgres.start()
    return Hit(f"database, started again after {away:.1f} s", at, 0)


def _stop(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    """SIGSTOP for longer than the farm waits: the node as when a lid is closed, or its agent or renderer alone."""
    node, part = _victim(farm, drawn), drawn.choice(("node", "agent", "renderer"))
    stopped = {
        "node": lambda: farm.of_node(node),
        "agent": lambda: [psutil.Process(farm.pid(f"node-{node}"))],
        "renderer": lambda: [farm.renderer(node)],
    }[part]()
    away, at = REQUEUE + 2.0 + 6.0 * this.pause, boottime()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for process in stopped:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGSTOP:
            time.sleep(away)
    return Hit(f"{part} of node {node} for {away:.1f} s", at, 1)


def _cut(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node, away, at = _victim(farm, drawn), REQUEUE + 2.0 + 6.0 * this.pause, boottime()
    farm.cables[node].cut()
    time.sleep(away)
    farm.cables[node].heal()
    return Hit(f"cable of node {node} for {away:.1f} s", at, 1)


def _slow(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node, kilobits = _victim(farm, drawn), drawn.randrange(200, 1000)
    at = boottime()
    farm.cables[node].slow(kilobits)
    return Hit(f"cable of node {node} at {kilobits} kbit/s", at, 0, farm.cables[node].quick)


def _loss(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node, at = _victim(farm, drawn), boottime()
    farm.cables[node].lose(0.05)
    return Hit(f"5 % of packets of node {node}", at, 0, lambda: farm.cables[node].lose(0.05, "-D"))


def _full(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    where, away, at = drawn.choice(sorted(farm.disks)), 2.0 + 6.0 * this.pause, boottime()
    farm.disks[where].fill()
    time.sleep(away)
    farm.disks[where].empty()
    return Hit(f"{where} full for {away:.1f} s", at, len(farm.nodes))


def _flip(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    """One bit of latents that are in the store; put right after the job, where nobody needed them again."""
    deadline = time.monotonic() + 60.0
    while not (found := sorted(farm.latents(job_id).items())):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{job_id} has made no latents within 60 s")
        time.sleep(0.1)
    key, (path, _) = drawn.choice(found)
    place, bit, at = int(path.stat().st_size * drawn.uniform(0.5, 0.99)), 1 << drawn.randrange(8), boottime()

    def flip() -> None:
        with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ bit]))

    flip()
    return Hit(f"bit {bit} of byte {place} of {key}", at, 1, flip)


def _clock(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    role = drawn.choice(["farmd", *(f"node-{node}" for node in farm.nodes)])
    ahead = drawn.choice((-1, 1)) * drawn.uniform(600.0, 3600.0)
    return _told(farm, role, {"clock": ahead}, f"clock of {role} moved by {ahead:.0f} s")


def _duplicate(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node = _victim(farm, drawn)
    return _told(farm, f"node-{node}", {"twice": True}, f"messages of node {node} twice")


def _delay(farm: FaultFarm, this: Strike, drawn: random.Random, job_id: str) -> Hit:
    node, late = _victim(farm, drawn), drawn.uniform(1.0, 6.0)
    return _told(farm, f"node-{node}", {"late": late}, f"messages of node {node} up to {late:.1f} s late")


def _told(farm: FaultFarm, role: str, wanted: dict[str, Any], what: str) -> Hit:
    file, at = farm.control / role, boottime()
    file.write_text(json.dumps(wanted))
    return Hit(what, at, 0, lambda: file.unlink(missing_ok=True))


_KINDS = {
    "renderer": _renderer,
    "raylet": _raylet,
    "agent": _agent,
    "bridge": _bridge,
    "head": _head,
    "daemon": _daemon,
    "database": _database,
    "stop": _stop,
    "cut": _cut,
    "slow": _slow,
    "loss": _loss,
    "full": _full,
    "flip": _flip,
    "clock": _clock,
    "duplicate": _duplicate,
    "delay": _delay,
}
