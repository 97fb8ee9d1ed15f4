"""Agents and renderers as the processes they are, for the tests of this folder."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from farm.v1 import nodes_pb2
from tests.nodeagent.small_farm import SmallFarm
from tests.told import job_part

HERE = Path(__file__).parent
WEIGHTS = hashlib.sha256(b"one").hexdigest()


def until(true: Callable[[], object], seconds: float = 15.0, what: str = "") -> None:
    """Wait for something to come true; fails saying what didn't."""
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, f"never: {what or true}"
        time.sleep(0.02)


def ended(farm: SmallFarm, attempt_id: str) -> nodes_pb2.Completion:
    """Wait for the farm to hear of an attempt's end, and return what it heard first."""
    until(lambda: farm.ended(attempt_id), what=f"completion of {attempt_id}")
    return farm.ended(attempt_id)[0]


class Agent:
    """A farm-node process."""

    def __init__(
        self,
        farm: SmallFarm,
        home: Path,
        python: str,
        environment: dict[str, str],
        *options: str,
        program: tuple[str, ...] = ("-m", "nodeagent.agent"),
    ):
        self.farm, self.home = farm, home
        self.log = home.with_suffix(".log")
        self.process = subprocess.Popen(
            [python, "-P", *program, "--home", str(home), "--threads", "1", *options],
            env=environment,
            stderr=self.log.open("a"),
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, *numbers: int) -> int:
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.3)
        return self.process.wait(20)


class RendererProcess:
    """A renderer of the device "cpu" and what it is told to run."""

    def __init__(self, home: Path, python: str, environment: dict[str, str]):
        # A workstation has no PYTHONUNBUFFERED, which would hide that a print is not in the log yet.
        unset = {name: value for name, value in environment.items() if name != "PYTHONUNBUFFERED"}
        self.process = subprocess.Popen(
            [python, str(HERE / "renderer_process.py"), "cpu"],
            env=unset
            | {"FARM_AGENT_SOCKET": str(home / "run" / "renderer.sock"), "FARM_AGENT_HOME": str(home)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self._calls, self._answers = self.process.stdin, self.process.stdout
        self.pid = int(self._answers.readline())

    def run(
        self,
        attempt_id: str,
        kind: str = "window",
        inputs=None,
        epoch: int = 1,
        weights=WEIGHTS,
        state=None,
        notes=(),
        **payload,
    ):
        shared = job_part(weights=weights)
        model = {"model": "counter", "weights": weights}
        task = {"key": f"{kind}/0", "kind": kind, "payload": payload, **model}
        document = {"task": task, "shared": shared, "inputs": inputs or {}, "state": state, "notes": notes}
        call = {"attempt_id": attempt_id, "epoch": epoch, "payload": document}
        self._calls.write(json.dumps(call) + "\n")
        self._calls.flush()

    def returned(self) -> dict:
        return json.loads(self._answers.readline())

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
