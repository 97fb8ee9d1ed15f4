"""Plans done in this process: as the example says, by a model or by plugins, stopped and gone on with, in lockstep."""

from __future__ import annotations

import doctest
import signal
import threading
import time
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from farm.json_values import Unreadable
from farm.plan import LATENTS, TaskKind, WindowTask
from farm.planning import Plan, PlannedTask
from farm.plugins import catalogue, planning_plugins
from farm.rendering import DeviceInfo, Save, Stopped
from farm.spec import parse_spec
from plugins.ltx.latents import load_latents
from renderer import local
from renderer.local import LocalJob, Work, by_plugins
from renderer.work_folder import model_cache
from scheduler.planning.plan import make_plan

MODEL = "ltx-tiny"


@cache
def _work() -> Work:
    return by_plugins(DeviceInfo("cpu", 0, 1, 0))


@cache
def _plan(strategy: str, steps: int = 3) -> Plan:
    """Three windows."""
    planning = planning_plugins()
    offers, cache = catalogue(planning), model_cache()
    source = planning.hook.farm_default_source(model=MODEL, cache=cache)
    spec = {
        "frames": 121, "width": 96, "height": 96, "prompt": "a red ball", "steps": steps, "strategy": strategy,
        "window_latents": 9, "overlap_latents": 3,
    }  # fmt: skip
    return make_plan(
        parse_spec(spec), model=offers.models[MODEL],
        weights=planning.hook.farm_weights_hash(model=MODEL, source=source, cache=cache),
        strategy=offers.strategies[strategy], output=offers.outputs["mp4"],
    )  # fmt: skip


def _job(strategy: str, folder: Path) -> LocalJob:
    return LocalJob(_plan(strategy).shared, folder, _work())


def _task(plan: Plan, key: str) -> PlannedTask:
    return next(task for task in plan.tasks if task.key == key)


def _windows(job: LocalJob) -> list[np.ndarray]:
    """The latents of the windows in their order."""
    keys = sorted(key for key, name in job.files if key.startswith("window/") and name == LATENTS)
    return [load_latents(job.files[key, LATENTS]).numpy() for key in keys]


def _latents(strategy: str, folder: Path) -> list[np.ndarray]:
    """The latents of the windows of a plan."""
    folder.mkdir()
    job = _job(strategy, folder)
    job.perform(task for task in _plan(strategy).tasks if task.kind not in (TaskKind.DECODE, TaskKind.MUX))
    return _windows(job)


def _apart(windows: list[np.ndarray]) -> list[float]:
    """How far neighbours are apart where they overlap, run-up included."""
    spans = [(task.start, task.stop) for task in _plan("codenoise").tasks if task.kind is TaskKind.WINDOW]
    return [
        float(np.abs(left[:, other[0] - own[0] :] - right[:, : own[1] - other[0]]).max())
        for left, right, own, other in zip(windows, windows[1:], spans, spans[1:])
    ]


def test_the_example_in_the_docstring_makes_a_video(tmp_path):
    done = doctest.testmod(local, extraglobs={"folder": tmp_path})
    assert done.attempted >= 12 and not done.failed


def test_a_task_is_stopped_at_a_step_and_goes_on_from_what_it_saved(tmp_path):
    plan, job, kept = _plan("autoregressive"), _job("autoregressive", tmp_path), tmp_path / "kept"
    job.do(_task(plan, "encode"))
    whole = load_latents(job.do(_task(plan, "window/0"))[LATENTS])
    (tmp_path / "other").mkdir()
    other = _job("autoregressive", tmp_path / "other")
    other.files["encode", "embeddings"] = job.files["encode", "embeddings"]

    def stop(done: int, total: int, save: Save | None = None) -> None:
        if done == 2:
            assert save
            save(kept)
            raise Stopped("a test wants it")

    with pytest.raises(Stopped):
        other.do(_task(plan, "window/0"), step=stop)
    assert not _windows(other), "what is stopped makes nothing"
    steps: list[int] = []
    other.do(_task(plan, "window/0"), state=kept, step=lambda done, *_: steps.append(done))
    assert steps[0] == 2 and other.facts["window/0"]["from_step"] == 2
    np.testing.assert_array_equal(_windows(other)[0], whole.numpy())
    other.do(_task(plan, "window/0"))
    assert "from_step" not in other.facts.get("window/0", {}), "only the last attempt's facts count"


def test_windows_in_lockstep_agree_where_they_overlap_and_come_out_the_same_again(tmp_path):
    windows = _latents("codenoise", tmp_path / "a")
    assert len(windows) == 3
    assert max(_apart(windows)) < 1e-4
    assert min(_apart(_latents("hierarchical", tmp_path / "b"))) > 0.05, (
        "apart from each other they would not"
    )
    for one, again in zip(windows, _latents("codenoise", tmp_path / "c"), strict=True):
        np.testing.assert_array_equal(one, again)


@pytest.mark.parametrize(
    ("broken", "raised"),
    [
        ({"shows": ((6, 15, ((99, 1.0),)),)}, IndexError),  # before its first step
        ({"sigmas": "none"}, Unreadable),  # before it gave anything
    ],
)  # fmt: skip
def test_when_one_window_fails_all_of_its_group_end_with_what_it_raised(tmp_path, broken, raised):
    tasks = [
        replace(task, payload=replace(WindowTask.of(task.payload), **broken).payload())
        if task.key == "window/1"
        else task
        for task in _plan("codenoise").tasks
    ]
    job = _job("codenoise", tmp_path)
    began = time.monotonic()
    with pytest.raises(raised):
        job.perform(tasks)
    assert time.monotonic() - began < 60, "nobody waits until its patience ends"
    assert not _windows(job)


def test_ctrl_c_ends_all_windows_of_a_group(tmp_path):
    def at_work() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("lockstep")]

    here = threading.main_thread().ident
    assert here is not None

    def press() -> None:
        while not at_work():
            time.sleep(0.01)
        time.sleep(0.2)
        pressed.append(bool(at_work()))
        signal.pthread_kill(here, signal.SIGINT)

    plan = _plan("codenoise", 60)  # seconds of them
    job = LocalJob(plan.shared, tmp_path, _work())
    pressed: list[bool] = []
    finger = threading.Thread(target=press, daemon=True)
    # A shell that runs this in the background has Python ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        finger.start()
        with pytest.raises(KeyboardInterrupt):
            job.perform(plan.tasks)
        assert not _windows(job)
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [True], "in the middle of it"
    assert not at_work()


def test_what_joins_find_out_is_kept(tmp_path):
    job = _job("codenoise", tmp_path)
    job.perform(task for task in _plan("codenoise").tasks if task.kind not in (TaskKind.DECODE, TaskKind.MUX))
    assert [job.facts[f"join/{index}"]["how"] for index in (0, 1)] == ["ramp", "ramp"]


def test_a_plugin_may_report_by_the_earlier_name(tmp_path):
    job = _job("codenoise", tmp_path)
    job.context(_task(_plan("codenoise"), "window/0")).tell("looked round", {"found": 3})
    assert job.facts["window/0"] == {"summary": "looked round", "found": 3}
