"""seam_hands.py: windows in lockstep are done together, as the farm does them, and end together."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from seam_hands import Hands
from seam_jobs import Job, Studio
from seam_takes import Take

from farm.json_values import Unreadable
from plugins.ltx.latents import load_latents

OVERLAP = 3


@cache
def _studio() -> Studio:
    return Studio(1)


@cache
def _job(strategy: str, steps: int = 3) -> Job:
    return _studio().job(Take(0, 0, "image", (96, 96), 121), strategy, 9, OVERLAP, steps)


def _windows(hands: Hands) -> list[np.ndarray]:
    """The latents of the windows in their order."""
    keys = sorted(key for key, name in hands.files if key.startswith("window/") and name == "latents")
    return [load_latents(hands.files[key, "latents"]).numpy() for key in keys]


def _done(strategy: str) -> list[np.ndarray]:
    with _studio().hands(_job(strategy)) as hands:
        hands.perform(_job(strategy).plan.tasks)
        return _windows(hands)


def _apart(windows: list[np.ndarray]) -> list[float]:
    """How far neighbours are apart where they overlap, run-up included."""
    plan = [task for task in _job("codenoise").plan.tasks if task.kind == "window"]
    spans = [(one.start, one.stop) for one in plan]
    return [
        float(np.abs(left[:, other[0] - own[0] :] - right[:, : own[1] - other[0]]).max())
        for left, right, own, other in zip(windows, windows[1:], spans, spans[1:])
    ]


def test_windows_in_lockstep_agree_where_they_overlap_and_come_out_the_same_again():
    windows = _done("codenoise")
    assert len(windows) == 3
    assert max(_apart(windows)) < 1e-4
    assert min(_apart(_done("hierarchical"))) > 0.05, "apart from each other they would not"
    for one, again in zip(windows, _done("codenoise"), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(
    ("broken", "raised"),
    [
        ({"shows": [[6, 15, [[99, 1.0]]]]}, IndexError),  # before its first step
        (
            {"lockstep": {"group": "window", "shared": [{"key": "window/0"}]}},
            Unreadable,
        ),  # before it gave anything
    ],
)
def test_when_one_window_fails_all_of_its_group_end_with_what_it_raised(broken, raised):
    tasks = [
        replace(task, payload=task.payload | broken) if task.key == "window/1" else task
        for task in _job("codenoise").plan.tasks
    ]
    with _studio().hands(_job("codenoise")) as hands:
        began = time.monotonic()
        with pytest.raises(raised):
            hands.perform(tasks)
        assert time.monotonic() - began < 60, "nobody waits until its patience ends"
        assert not _windows(hands)


def test_ctrl_c_ends_all_windows_of_a_group():
    def at_work() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("lockstep")]

    def press() -> None:
        while not at_work():
            time.sleep(0.01)
        time.sleep(0.2)
        pressed.append(bool(at_work()))
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    job = _job("codenoise", 60)  # seconds of them
    pressed: list[bool] = []
    finger = threading.Thread(target=press, daemon=True)
    # A shell that runs this in the background has Python ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with _studio().hands(job) as hands:
            finger.start()
            with pytest.raises(KeyboardInterrupt):
                hands.perform(job.plan.tasks)
            assert not _windows(hands)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [True], "in the middle of it"
    assert not at_work()


def test_what_joins_find_out_is_kept():
    with _studio().hands(_job("codenoise")) as hands:
        hands.perform(_job("codenoise").plan.tasks)
        assert [hands.told[f"join/{index}"]["how"] for index in (0, 1)] == ["ramp", "ramp"]
