"""How long from `farmctl up` to the first task running.

Starts a farm of one node in an empty home, submits a text job as soon as `farmctl up --detach` returns, and waits for
the event that says its first task runs on a renderer. Prints one JSON object on its last line:

    seconds             from the start of `farmctl up` to the first task running (goal: at most 15 on two cores)
    up_seconds          of that, until `farmctl up --detach` returned
    first_time_seconds  the same where the machine has never made ltx-tiny's weights (its cache is empty)

    python benchmarks/startup.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from farm.client import FarmClient
from farm.processes.children import python_command


def measure(cache: Path | None) -> tuple[float, float]:
    """Seconds until the first task runs, and until `farmctl up` returned; `cache` replaces the user's own."""
    with tempfile.TemporaryDirectory(prefix="farm-startup-") as folder:
        home = Path(folder) / "farm"
        home.mkdir()
        (home / "farm.toml").write_text('[server]\nlisten = "127.0.0.1:0"\n')
        environment = os.environ | ({"XDG_CACHE_HOME": str(cache)} if cache else {})
        farmctl = python_command("farm.cli")
        begun = time.monotonic()
        try:
            subprocess.run(
                [*farmctl, "up", "--detach", "--home", home],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            up = time.monotonic() - begun
            with FarmClient.from_profile(home / "client.json") as client:
                job = client.submit(frames=9, width=64, height=64, fps=30.0).job
                for update in client.watch(job.id):
                    if getattr(update, "kind", "") == "started":
                        return time.monotonic() - begun, up
            raise RuntimeError(f"no task of job {job.id} ever ran")
        finally:
            subprocess.run([*farmctl, "down", "--home", home], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="farms started; the median counts")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="farm-cache-") as cache:
        first_time, _ = measure(Path(cache))
    measure(None)
    measured = [measure(None) for _ in range(rounds)]
    print(
        json.dumps(
            {
                "seconds": round(statistics.median(total for total, _ in measured), 2),
                "up_seconds": round(statistics.median(up for _, up in measured), 2),
                "first_time_seconds": round(first_time, 2),
                "rounds": [round(total, 2) for total, _ in measured],
                "cores": len(os.sched_getaffinity(0)),
            }
        )
    )


if __name__ == "__main__":
    main()
