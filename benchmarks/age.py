"""Whether a farm that has done thousands of jobs answers as fast as a new one.

Makes two farms' records in SQLite and two in PostgreSQL, each with the same 100 live jobs on 20 nodes, and the second
with ended jobs besides (copied rows). Asks both in turn, after ANALYZE, for what a farm is asked all day. Prints one
JSON object on its last line, with medians in milliseconds by count of ended jobs:

    {"sqlite": {"ready": {"0": ms, "20000": ms}, "list_jobs": …, "get_job": …, "heartbeat": …, "why": …},
     "postgresql": {…}, "worst_ratio": r}

    ready        tasks that could start, as the dispatch loop asks every second and after every change
    list_jobs    the 100 newest jobs, as the API answers
    get_job      one job with its tasks and attempts, as the API answers
    heartbeat    a node's heartbeat: it is alive, its leases are renewed
    why          `farmctl job why`
    worst_ratio  the largest quotient of the two medians (goal: at most 1.5)

With --live a dispatch loop gives a hundred small jobs at a time to 20 fake nodes that finish them at once, and the
last line is {"dispatched_per_second": {"0": n, "10000": n}, "ratio": r} (goal: at least .9). Fake: the nodes' streams,
the renderers and their results; the loop, placement and the record are the farm's own.

    python benchmarks/age.py [--jobs 20000] [--rounds 100] [--database sqlite]
    python benchmarks/age.py --live [--jobs 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import _root  # noqa: F401 - before tests
from age_history import LIVE, analyze, join_nodes, live_jobs, past
from age_live import dispatched_per_second
from age_paths import Farm, timed

from farm.logs import configure_logs
from farm.store.store import Store
from tests.postgres_server import binaries, in_memory, running

DATABASES = ("sqlite", "postgresql")


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator[tuple[str, str]]:
    """URLs of two empty databases of a kind."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/new.db", f"sqlite:///{folder}/old.db"
        return
    found = binaries()
    if found is None:
        raise SystemExit(
            "postgresql: initdb is neither in PATH nor in /usr/lib/postgresql; try --database sqlite"
        )
    with running(found) as server:
        server.create("new")
        server.create("old")
        yield server.url.format(name="new"), server.url.format(name="old")


def measure(kind: str, count: int, rounds: int, folder: Path) -> dict[str, dict[str, float]]:
    """Median milliseconds of each path, in a farm without a past and in one of `count` ended jobs."""
    with databases(kind, folder) as urls, contextlib.ExitStack() as stack:
        farms = {}
        for ended, url in zip((0, count), urls, strict=True):
            store = stack.enter_context(Store.lead(url, "age"))
            tell(f"{kind}: {ended} ended jobs and {LIVE} live ones")
            join_nodes(store)
            past(store, ended)
            live = live_jobs(store)
            analyze(store)
            farms[str(ended)] = timed(Farm(store, folder / "artifacts"), live)
        figures = {}
        for path in farms["0"]:
            took: dict[str, list[float]] = {jobs: [] for jobs in farms}
            for _ in range(rounds + 2):
                for jobs, paths in farms.items():
                    begun = time.perf_counter()
                    paths[path]()
                    took[jobs].append(1e3 * (time.perf_counter() - begun))
            # The first two fill caches.
            figures[path] = {jobs: round(statistics.median(each[2:]), 3) for jobs, each in took.items()}
            tell(f"{kind}: {path} {figures[path]}")
        return figures


def tell(what: str) -> None:
    """A line for the person who waits."""
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, help="ended jobs of the old farm (20000; with --live 10000)")
    parser.add_argument("--rounds", type=int, default=100, help="times that each path is gone in each farm")
    parser.add_argument("--database", choices=DATABASES, action="append", help="only this one")
    parser.add_argument("--live", action="store_true", help="measure how fast a live farm dispatches")
    arguments = parser.parse_args()
    configure_logs("warning", "text", "age")
    with tempfile.TemporaryDirectory(prefix="farm-age-", dir=os.environ.get("TMPDIR", in_memory())) as name:
        if arguments.live:
            count = arguments.jobs or 10_000
            print(json.dumps(asyncio.run(dispatched_per_second(count, Path(name), tell))))
            return
        count, result = arguments.jobs or 20_000, {}
        for kind in arguments.database or DATABASES:
            result[kind] = measure(kind, count, arguments.rounds, Path(name))
        ratios = [figure[str(count)] / figure["0"] for paths in result.values() for figure in paths.values()]
        print(json.dumps(result | {"worst_ratio": round(max(ratios), 3)}))


if __name__ == "__main__":
    main()
