"""Whatever dies, the video is there in the morning: a farm that lives long, and everything that can be done to it.

Real processes, a real database, ltx-tiny in real renderers, at a walking pace (fault_witness.py) so that a window lasts
some seconds without two cores being full. One farm of three nodes on a network of their own; for each fault a job of
a storyboard, two windows, a join, and so on, and the fault at a random moment of it. Then the next, on the same farm.

    python benchmarks/faults.py --help
    python benchmarks/faults.py renderer cut --each 5

| goal | of each fault |
|---|---|
| finished | all jobs |
| equal | all: latents of storyboards, windows and joins within 1e-5 of those of an undisturbed job |
| committed_twice | 0 results beyond a task's first (what was damaged in the store is made again, and counts once more) |
| live_twice | 0 attempts that took another step after a later one of their task had begun (as renderers saw it) |
| most_rendered_again | ≤ 1 a device that was lost: too_often_again counts the strikes that cost more |
| back_max_s | a dead renderer's window ≤ 2 s, a silent node's ≤ 20 s (requeue is 15 s) |
| left | after `farmctl down` no process, shared memory or temporary file; at no time did an attempt run without a renderer that worked on it |

What each fault is, and what it may cost, says fault_kinds.py; the drawing and the judging are fault_schedule.py's. Wall
clocks are moved for the farm's own code alone, see fault_process.py. Times were measured under the load that is told.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import fault_network
import numpy as np
import psutil
from fault_farm import FaultFarm
from fault_kinds import Hit, strike, why_skipped
from fault_schedule import (
    FAULTS,
    Strike,
    back_at_work,
    committed_twice,
    live_twice,
    mixed,
    rendered_again,
    schedule,
    summary,
)

from farm.v1 import jobs_pb2

JOB_SECONDS = 240.0
IN_FLIGHT = 4
"""Jobs that a soak keeps on the farm."""


class Bench:
    """One farm and what has been done to it."""

    def __init__(self, farm: FaultFarm, rows: Path):
        self.farm, self._rows = farm, rows
        self.outcomes = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        self._undisturbed: dict[str, np.ndarray] = {}
        self.job_seconds = 0.0

    def undisturbed(self) -> None:
        """Warms every renderer up, then keeps the latents of a job to which nothing happens, and its time."""
        # No fault's time is to have the loading of a model in it. Like the others: the farm measures how fast nodes are.
        for job_id in [self.farm.submit() for _ in self.farm.nodes]:
            self.farm.ended(job_id, JOB_SECONDS)
        begun = time.monotonic()
        job_id = self.farm.submit()
        job = self.farm.ended(job_id, JOB_SECONDS)
        if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
            raise click.ClickException(f"the undisturbed job failed: {job.error}")
        self.job_seconds = time.monotonic() - begun
        self._undisturbed = {key: latents for key, (_, latents) in self.farm.latents(job_id).items()}

    def done(self, this: Strike) -> bool:
        """Whether an earlier run that was interrupted had done it."""
        return any((each["fault"], each["number"]) == (this.fault, this.number) for each in self.outcomes)

    def strike(self, this: Strike) -> None:
        """A job, the fault in it, and what came of both."""
        self.farm.ready()
        began = time.monotonic()
        job_id = self.farm.submit()
        time.sleep(max(0.0, began + this.moment * self.job_seconds - time.monotonic()))
        hit = strike(self.farm, this, job_id)
        try:
            job = self.farm.ended(job_id, JOB_SECONDS)
            problem = job.error
        except TimeoutError as error:
            job, problem = None, str(error)
            with self.farm.client() as client:
                client.cancel(job_id)
        finally:
            hit.heal()
        finished = job is not None and job.state == jobs_pb2.JOB_STATE_SUCCEEDED
        self._keep(this, hit, job_id, finished, problem, time.monotonic() - began)

    def soak(self, jobs: int, faults: list[str], seed: int) -> None:
        """So many jobs, some at a time, and one fault after the other until the last has ended."""
        running: dict[str, None] = {}
        hits: list[Hit] = []
        begun = number = len(self.outcomes)
        while running or begun < jobs:
            while begun < jobs and len(running) < IN_FLIGHT:
                running[self.farm.submit()] = None
                begun += 1
            this = mixed(faults, seed, number)
            number += 1
            time.sleep(4.0 * this.moment)
            try:
                hits.append(strike(self.farm, this, next(iter(running))))
                click.echo(f"{this.fault}: {hits[-1].what}; {begun} of {jobs} jobs begun")
            except (psutil.Error, TimeoutError, FileNotFoundError) as error:
                click.echo(f"{this.fault}: nothing to hit, {error}")
            ended = {job_id: end for job_id in running if (end := self._soaked(job_id))}
            if ended and (aside := self.farm.resume()):
                click.echo(f"taken back from quarantine: {', '.join(aside)}")
            # What a fault still holds, bits that it flipped among it, is given back before anything is judged.
            while hits and (ended or len(hits) > 2):
                hits.pop(0).heal()
            for job_id, end in ended.items():
                del running[job_id]
                place = Strike("soak", len(self.outcomes), 0.0, 0.0, 0)
                self._keep(place, Hit("all faults", 0.0, number), job_id, *end, 0.0)

    def _soaked(self, job_id: str) -> tuple[bool, str] | None:
        try:
            job = self.farm.ended(job_id, 0.3)
        except TimeoutError:
            return None
        return job.state == jobs_pb2.JOB_STATE_SUCCEEDED, job.error

    def _keep(
        self, this: Strike, hit: Hit, job_id: str, finished: bool, problem: str, seconds: float
    ) -> None:
        tries, sights = self.farm.tries(job_id), self.farm.sights()
        ids = {each.id for each in tries}
        sights = [each for each in sights if each.attempt in ids]
        outcome: dict[str, Any] = {
            "fault": this.fault,
            "number": this.number,
            "moment_s": round(this.moment * self.job_seconds, 2),
            "hit": hit.what,
            "job": job_id,
            "finished": finished,
            "problem": problem,
            "difference": self._difference(job_id) if finished else None,
            "committed_twice": committed_twice(tries, self.farm.damaged(job_id)),
            "live_twice": live_twice(tries, sights),
            "rendered_again": rendered_again(tries, sights),
            "allowed": hit.allowed,
            "back": [round(each, 2) for each in back_at_work(tries, sights, hit.at)],
            "seconds": round(seconds, 1),
            "load": round(os.getloadavg()[0], 1),
        }
        self.outcomes.append(outcome)
        with self._rows.open("a") as file:
            file.write(json.dumps(outcome) + "\n")
        click.echo(_line(outcome))

    def _difference(self, job_id: str) -> float | None:
        made = {key: latents for key, (_, latents) in self.farm.latents(job_id).items()}
        if made.keys() != self._undisturbed.keys():
            return None
        return max(float(np.abs(latents - self._undisturbed[key]).max()) for key, latents in made.items())


def _line(outcome: Mapping[str, Any]) -> str:
    end = "finished" if outcome["finished"] else f"NOT FINISHED ({outcome['problem']})"
    worst = outcome["difference"]
    equal = "no latents" if worst is None else "equal" if worst <= 1e-5 else f"DIFFERENT by {worst:g}"
    back = f", back at work after {', '.join(map(str, outcome['back']))} s" if outcome["back"] else ""
    return (
        f"{outcome['fault']} {outcome['number']}: at {outcome['moment_s']} s, {outcome['hit']}: {end} in "
        f"{outcome['seconds']} s, {equal}, {outcome['rendered_again']} rendered again{back}, "
        f"{outcome['committed_twice']} committed twice, {outcome['live_twice']} live twice"
    )


@click.command()
@click.argument("faults", nargs=-1, type=click.Choice(FAULTS), metavar="[FAULT]…")
@click.option(
    "--each", type=click.IntRange(1), help="Strikes of each fault. Default: 20 a kill, 5 a slow one."
)
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of all moments; the same seed, the same."
)
@click.option(
    "--database", type=click.Choice(["sqlite", "postgresql"]), default="postgresql", show_default=True
)
@click.option(
    "--nodes", type=click.IntRange(2), default=3, show_default=True, help="Nodes of one thread each."
)
@click.option(
    "--window-seconds", type=float, default=4.0, show_default=True, help="What a window is stretched to."
)
@click.option(
    "--soak", type=click.IntRange(1), metavar="JOBS", help="Instead: so many jobs under all faults mixed."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out/faults"),
    show_default=True,
    help="Folder of the farm, its logs and the rows.",
)
def main(
    faults: tuple[str, ...],
    each: int | None,
    seed: int,
    database: str,
    nodes: int,
    window_seconds: float,
    soak: int | None,
    out: Path,
) -> None:
    """Break a farm in every way, and see that no job takes harm.

    FAULTs, all of them unless named: renderer raylet agent bridge head daemon database (each kill -9), stop (SIGSTOP past
    the requeue delay), cut, slow and loss (of the link between daemon and node), full (disk), flip (a bit of an artifact),
    clock (moved), duplicate and delay (of messages).

    One line a strike; the last line is one JSON object with a row a fault. Strikes are kept in OUT as they come: the
    same command goes on where it was interrupted. Needs root for the network and the disks (namespaces of its own,
    nothing outside them is touched), else those faults are skipped; and two cores that do little else.

    The whole, with 20 kills of each kind: about 50 minutes.
    """
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    network = not fault_network.why_not()
    if network:
        fault_network.enter(out)
    chosen = [fault for fault in FAULTS if fault in (faults or FAULTS)]
    skipped = {fault: why for fault in chosen if (why := why_skipped(fault, database))}
    for fault, why in skipped.items():
        click.echo(f"{fault}: skipped, {why}")
    chosen = [fault for fault in chosen if fault not in skipped]
    farm = FaultFarm(out / "farm", nodes, database, window_seconds, network)
    bench = Bench(farm, out / f"{'soak' if soak else 'rows'}-{database}-{seed}.jsonl")
    begun, left = time.monotonic(), {}
    try:
        farm.start(nodes, threads=1)
        farm.ready()
        bench.undisturbed()
        click.echo(f"an undisturbed job takes {bench.job_seconds:.1f} s; seed {seed}, {database}")
        if soak:
            bench.soak(soak, chosen, seed)
        for this in () if soak else schedule(chosen, each, seed):
            if not bench.done(this):
                bench.strike(this)
        farm.ready()
    finally:
        left = farm.end()
        farm.close()
        told = {
            "rows": summary(bench.outcomes, skipped),
            "left": left,
            "database": database,
            "seed": seed,
            "seconds": round(time.monotonic() - begun),
            "job_seconds": round(bench.job_seconds, 1),
            "load": [bench.outcomes and max(each["load"] for each in bench.outcomes), os.cpu_count()],
        }
        click.echo(json.dumps(told))


if __name__ == "__main__":
    main()
