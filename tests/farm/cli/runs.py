"""farmctl as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from farm.cli.local import MARK

# Whoever runs the tests in the background of a shell has SIGINT ignored, and children inherit that.
_HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"

PROGRAM = [
    sys.executable,
    "-P",
    "-uc",
    f"{_HEARS_CTRL_C}; from farm.cli import main; main(prog_name='farmctl')",
]


def variables(home: Path) -> dict[str, str | None]:
    """What farmctl needs to find the farm in `home`, on a port of the system's choice; None: to be taken away."""
    away = {name: None for name in os.environ if name.startswith("FARM_")}
    return away | {"FARM_HOME": str(home), "FARM_SERVER_LISTEN": "127.0.0.1:0", "OMP_NUM_THREADS": "1"}


def environment(home: Path) -> dict[str, str]:
    """The whole environment of a program for the farm in `home`."""
    return {name: value for name, value in (os.environ | variables(home)).items() if value is not None}


def run(home: Path, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess:
    """farmctl for the farm in `home`, called in `cwd`."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command, env=environment(home), cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


def processes(home: Path) -> list[str]:
    """Everything that runs for the farm in `home`, this test aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in " ".join(process.cmdline()) or process.environ().get(MARK) == str(home):
                found.append(f"{process.pid} {process.cmdline()}")
        except (psutil.Error, OSError):
            continue
    return found
