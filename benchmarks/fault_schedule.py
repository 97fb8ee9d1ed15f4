"""Draws from a seed what will go wrong and when, and judges what came of it, for benchmarks/faults.py.

The schedule of faults, the judgement of a job's attempts and of what the witness saw, and the summary live here. Pure: no
clock, no process, no file.
"""

from __future__ import annotations

import itertools
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KILLS = ("renderer", "raylet", "agent", "bridge", "head", "daemon", "database")
SLOW = ("stop", "cut", "slow", "loss", "full", "flip", "clock", "duplicate", "delay")
FAULTS = KILLS + SLOW
EACH_KILL, EACH_SLOW = 20, 5

RENDERED = ("storyboard", "window")
"""Kinds of tasks that cost a GPU minutes; the others take no longer than it takes to see that they were lost."""

AT_WORK_WITHIN = {"renderer": 2.0, "raylet": 2.0, "stop": 20.0, "cut": 20.0}
"""Seconds until the window of what this fault takes away has to be back at work."""


@dataclass(frozen=True)
class Strike:
    """One fault to come. `moment`: as a share of the time that an undisturbed job takes, from its submission on.

    `pause`: as a share of what the fault may last at most; `seed`: of what else it chooses.
    """

    fault: str
    number: int
    moment: float
    pause: float
    seed: int


def schedule(faults: Sequence[str], each: int | None, seed: int) -> list[Strike]:
    """The strikes of each of `faults`, one fault after the other: `each` of them, or as many as the bench is for.

    A fault's strikes depend on nothing but the seed and its name: leaving others out or asking for more changes none.
    """
    return [
        _strike(fault, number, seed)
        for fault in faults
        for number in range(each or (EACH_KILL if fault in KILLS else EACH_SLOW))
    ]


def _strike(fault: str, number: int, seed: int) -> Strike:
    drawn = random.Random(f"{seed} {fault} {number}")
    return Strike(
        fault, number, round(drawn.uniform(0.02, 0.95), 3), round(drawn.random(), 3), drawn.getrandbits(31)
    )


def mixed(faults: Sequence[str], seed: int, number: int) -> Strike:
    """The strike of this number of a soak: any of the faults."""
    return _strike(random.Random(f"{seed} soak {number}").choice(sorted(faults)), number, seed)


@dataclass(frozen=True)
class Try:
    """An attempt as the record has it. `succeeded`: its result was committed."""

    id: str
    epoch: int
    task: str
    kind: str
    succeeded: bool


@dataclass(frozen=True)
class Sight:
    """What the witness in a renderer saw. `at`: CLOCK_BOOTTIME in s; `event`: "began", "step" (granted) or "ended"."""

    at: float
    attempt: str
    epoch: int
    event: str
    node: str = ""


def committed_twice(tries: Sequence[Try], damaged: Mapping[str, int]) -> int:
    """Results committed beyond the first of a task; `damaged`: by task, how often its result had to be made again."""
    commits = Counter(each.task for each in tries if each.succeeded)
    return sum(max(0, count - 1 - damaged.get(task, 0)) for task, count in commits.items())


def live_twice(tries: Sequence[Try], sights: Sequence[Sight]) -> int:
    """Attempts that went on to another step after a later one of the same task had begun to work."""
    steps = _steps(sights)
    found = 0
    for attempts in _by_task(tries).values():
        worked = [steps[each.id, each.epoch] for each in attempts if steps[each.id, each.epoch]]
        found += sum(
            max(earlier) > min(min(later) for later in worked[place:])
            for place, earlier in enumerate(worked[:-1], 1)
        )
    return found


def rendered_again(tries: Sequence[Try], sights: Sequence[Sight]) -> int:
    """Storyboards and windows that were begun beyond the first time, as the witness saw it."""
    steps = _steps(sights)
    return sum(
        max(0, sum(bool(steps[each.id, each.epoch]) for each in attempts) - 1)
        for attempts in _by_task(tries).values()
        if attempts[0].kind in RENDERED
    )


def back_at_work(tries: Sequence[Try], sights: Sequence[Sight], struck: float) -> list[float]:
    """Seconds from the fault until another attempt began, of each storyboard or window that it interrupted."""
    began = {(each.attempt, each.epoch): each.at for each in sights if each.event == "began"}
    ended = {(each.attempt, each.epoch): each.at for each in sights if each.event == "ended"}
    found = []
    for attempts in _by_task(tries).values():
        known = [(each.id, each.epoch) for each in attempts if (each.id, each.epoch) in began]
        for this, following in itertools.pairwise(known):
            hit = began[this] <= struck < ended.get(this, float("inf"))
            if hit and attempts[0].kind in RENDERED and began[following] > struck:
                found.append(began[following] - struck)
    return found


def _steps(sights: Sequence[Sight]) -> defaultdict[tuple[str, int], list[float]]:
    found: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for each in sights:
        if each.event == "step":
            found[each.attempt, each.epoch].append(each.at)
    return found


def _by_task(tries: Sequence[Try]) -> dict[str, list[Try]]:
    found: defaultdict[str, list[Try]] = defaultdict(list)
    for each in sorted(tries, key=lambda one: one.epoch):
        found[each.task].append(each)
    return dict(found)


def summary(outcomes: Sequence[Mapping[str, Any]], skipped: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row a fault. An outcome has fault, finished, difference (None without latents), committed_twice, live_twice,
    rendered_again, allowed (windows that may be rendered again) and back (seconds, see `back_at_work`)."""
    rows: list[dict[str, Any]] = []
    for fault in dict.fromkeys(each["fault"] for each in outcomes):
        mine = [each for each in outcomes if each["fault"] == fault]
        back = [seconds for each in mine for seconds in each["back"]]
        worst = [each["difference"] for each in mine if each["difference"] is not None]
        rows.append({
            "fault": fault,
            "times": len(mine),
            "finished": sum(each["finished"] for each in mine),
            "equal": sum(each["difference"] is not None and each["difference"] <= 1e-5 for each in mine),
            "worst_difference": max(worst, default=None),
            "committed_twice": sum(each["committed_twice"] for each in mine),
            "live_twice": sum(each["live_twice"] for each in mine),
            "most_rendered_again": max(each["rendered_again"] for each in mine),
            "too_often_again": sum(each["rendered_again"] > each["allowed"] for each in mine),
            "interrupted": len(back),
            "back_median_s": round(statistics.median(back), 2) if back else None,
            "back_max_s": round(max(back), 2) if back else None,
        })  # fmt: skip
        rows[-1]["goals"] = unmet(rows[-1]) or "met"
    return rows + [{"fault": fault, "skipped": why} for fault, why in skipped.items()]


def unmet(row: Mapping[str, Any]) -> list[str]:
    """Names of a row's figures that miss their goals."""
    missed = [name for name in ("finished", "equal") if row[name] < row["times"]]
    missed += [name for name in ("committed_twice", "live_twice", "too_often_again") if row[name]]
    if (row["back_max_s"] or 0.0) > AT_WORK_WITHIN.get(row["fault"], float("inf")):
        missed.append("back_max_s")
    return missed
