"""Runs a program of the farm with a wall clock that can be set, and, of an agent, a stream that stutters.

    python fault_process.py ROLE MODULE ARGUMENTS…

The folder FAULT_CONTROL has a file a role, JSON: {"clock": seconds that the wall clock is ahead, "twice": true when each
message is to be sent twice, "late": most seconds by which one is held back, "seed": of how long}. The clock is the one
that the program's own Python reads (time.time); TLS libraries and Ray go on with the machine's. Nothing else of the
program is changed.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import runpy
import sys
import threading
import time
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.1


class Control:
    """What the bench wants of this process now."""

    def __init__(self, file: Path):
        self._file = file
        self.wanted: dict[str, Any] = {}
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                self.wanted = json.loads(self._file.read_text())
            except (OSError, ValueError):
                self.wanted = {}
            time.sleep(_LOOK_SECONDS)


def set_clock(control: Control) -> None:
    """Puts a clock that is ahead in the place of time.time."""
    real = time.time
    time.time = lambda: real() + control.wanted.get("clock", 0.0)


def stutter(control: Control) -> None:
    """Has what an agent tells of its attempts sent twice, or late and out of order."""
    from farm.v1 import nodes_pb2
    from nodeagent.stream import FarmStream

    send, drawn = FarmStream.send, random.Random()

    def sent(self: FarmStream, request: nodes_pb2.ConnectRequest) -> None:
        # A stream keeps its order: what comes and goes of renderers is never heard the wrong way round.
        wanted = control.wanted if request.WhichOneof("message") in ("progress", "completion") else {}
        if late := wanted.get("late"):
            asyncio.get_running_loop().call_later(drawn.uniform(0.0, late), send, self, request)
        else:
            send(self, request)
        if wanted.get("twice"):
            asyncio.get_running_loop().call_later(drawn.uniform(0.0, 3.0), send, self, request)

    FarmStream.send = sent  # type: ignore[method-assign]


def main() -> None:
    role, module, *arguments = sys.argv[1:]
    # Not the folder of the benchmarks, whose names are not the program's business.
    sys.path.pop(0)
    control = Control(Path(os.environ["FAULT_CONTROL"]) / role)
    set_clock(control)
    if module == "nodeagent.agent":
        stutter(control)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
