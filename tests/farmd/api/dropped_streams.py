"""A daemon and clients that go away in the middle of watching a job: a process that a test starts, since it may crash."""

from __future__ import annotations

import gc
import sys
import time
from pathlib import Path

from farm.client import FarmClient
from farm.v1 import jobs_pb2
from tests.farm.small_daemon import SmallDaemon
from tests.farm.store.store_world import submit


def main(home: Path, rounds: int) -> None:
    """Watch one job with clients of which each drops its streams; say at the end that the daemon still answers."""
    daemon = SmallDaemon(home)
    job = submit(daemon.store)
    for number in range(rounds):
        client = FarmClient.from_profile(home / "client.json")
        watches = [client._jobs.WatchJob(jobs_pb2.WatchJobRequest(job_id=job.id)) for _ in range(3)]
        for watch in watches:
            next(iter(watch))
        for watch in watches[:2]:
            watch.cancel()
        client.close()
        if number % 5 == 4:
            # Python ends what a handler left behind when it collects garbage; gRPC has freed the call by then.
            time.sleep(0.05)
            gc.collect()
    time.sleep(0.2)
    gc.collect()
    with FarmClient.from_profile(home / "client.json") as client:
        print("answers", len(client.jobs()))
    daemon.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
