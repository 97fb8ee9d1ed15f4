"""A renderer's models: kept warm beside each other while they fit, and let go before a task is given up."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pluggy
import pytest

from farm import hookspecs
from farm.handed import Handed, HandedTask
from farm.hookspecs import hookimpl
from farm.json_values import as_json, read_value
from farm.plan import SEGMENT, SIDECAR, MuxTask, Payload, TaskKind
from farm.planning import PlannedTask
from farm.plugins import planning_plugins, rendering_plugins
from farm.rendering import DeviceInfo, OutOfMemory, TaskContext
from plugins.outputs.mp4 import encode_segment
from renderer.local import LocalJob
from renderer.work import Workbench
from tests.nodeagent.throwaway_planning import farm_models
from tests.told import job_part

GIB = 2**30

(COUNTER,) = farm_models()
LARGE = replace(COUNTER, name="large", transformer_parameters=10, vae_parameters=0)
SMALL = replace(COUNTER, name="small", transformer_parameters=4, vae_parameters=0)


class Models:
    """A plugin whose models tell by what they were loaded, and want the device for themselves if told to."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.alone = True

    @hookimpl
    def farm_models(self):
        return [LARGE, SMALL]

    @hookimpl
    def farm_outputs(self):
        return []

    @hookimpl
    def farm_strategies(self):
        return []

    @hookimpl
    def farm_default_source(self, model: str, cache: Path):
        return model

    @hookimpl
    def farm_weights_hash(self, model: str, source: str, cache: Path):
        return f"hash of {model}"


@dataclass(frozen=True)
class Wish:
    """What a window here is told: it runs out of memory beside more models than `greedy`; 0: beside no number."""

    greedy: float = 0.0


class Tensors:
    bench: Workbench

    def __init__(self, models: Models):
        self.models = models

    @hookimpl
    def farm_load_model(self, model: str, source: str, precision: str, device: DeviceInfo):
        self.models.loaded.append(model)
        return Greedy(self)


class Greedy:
    def __init__(self, plugin: Tensors):
        self.plugin = plugin

    def window(self, task: TaskContext):
        greedy = read_value(Wish, task.payload).greedy
        if greedy and len(self.plugin.bench._warm) > greedy:
            raise OutOfMemory("too little")
        return {}


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture
def bench_of(models, tmp_path):
    def make(vram_bytes: int) -> Workbench:
        planning, rendering = pluggy.PluginManager("farm"), pluggy.PluginManager("farm")
        planning.add_hookspecs(hookspecs.PlanningHooks)
        rendering.add_hookspecs(hookspecs.RenderingHooks)
        tensors = Tensors(models)
        planning.register(models)
        rendering.register(tensors)
        tensors.bench = Workbench(planning, rendering, DeviceInfo("cpu", 0, 1, vram_bytes), tmp_path)
        return tensors.bench

    return make


def window(bench: Workbench, model: str, folder: Path, weights: str = "", greedy: float = 0.0) -> None:
    """Does a window with a model."""
    shared = job_part(model="large", weights="hash of large")
    job = LocalJob(shared, folder, partial(bench.perform, sources={}))
    payload = Payload(as_json(Wish(greedy)))
    job.do(
        PlannedTask(
            "window/0", TaskKind.WINDOW, (), payload, model=model, weights=weights or f"hash of {model}"
        )
    )


def test_two_models_of_a_job_stay_warm_where_both_fit_and_take_turns_where_not(models, bench_of, tmp_path):
    for vram_bytes, loads in ((100, ["large", "small"]), (70, ["large", "small", "large"])):
        models.loaded.clear()
        bench = bench_of(vram_bytes)
        for name in ("large", "small", "large"):
            window(bench, name, tmp_path)
        assert models.loaded == loads


def test_a_model_that_is_loaded_is_named_for_as_long_as_that_takes(models, bench_of, tmp_path):
    told = []

    @contextmanager
    def loading(model):
        told.append(model)
        yield
        told.append(f"{models.loaded} are loaded")

    bench = bench_of(100)
    bench._device = replace(bench._device, loading=loading)
    for name in ("large", "large", "small"):
        window(bench, name, tmp_path)
    assert told == ["large", "['large'] are loaded", "small", "['large', 'small'] are loaded"]


def test_a_task_renders_with_the_weights_that_it_names_and_no_others(models, bench_of, tmp_path):
    with pytest.raises(
        Exception,
        match="weights of small must have the hash other, but the hash of the weights in small is hash of small",
    ):
        window(bench_of(100), "small", tmp_path, weights="other")


def test_a_second_model_goes_before_a_device_is_called_too_small(models, bench_of, tmp_path):
    bench = bench_of(100)
    window(bench, "large", tmp_path)
    window(bench, "small", tmp_path, greedy=1)
    assert models.loaded == ["large", "small", "small"]
    with pytest.raises(OutOfMemory):
        window(bench, "small", tmp_path, greedy=0.5)


def test_a_sidecar_has_what_people_are_told_of_the_job(tmp_path):
    bench = Workbench(planning_plugins(), rendering_plugins(), DeviceInfo("cpu", 0, 1, GIB), tmp_path)
    encode_segment(np.zeros((3, 64, 64, 3), np.uint8), tmp_path / "segment.mp4", 64, 64, Fraction(24))
    said = "the image at frame 1 differs from what was rendered there by 21 dB (PSNR; below 22 it stands out)"
    shared = job_part(output="mp4", frames=3, fps="24/1")
    job = LocalJob(shared, tmp_path, partial(bench.perform, sources={}))
    job.files["decode/0", SEGMENT] = tmp_path / "segment.mp4"
    mux = PlannedTask("mux", TaskKind.MUX, ("decode/0",), MuxTask(("decode/0",)).payload())
    made = bench.perform(replace(job.context(mux), notes=(said,)), {})
    told = json.loads(made[SIDECAR].read_text())
    assert told.pop("notes") == [said] and told == shared


def test_a_task_from_a_daemon_of_an_earlier_version_has_no_notes():
    handed = Handed(HandedTask("mux", "mux", MuxTask(()).payload(), "", ""), job_part(), {}, notes=("said",))
    sent = json.loads(handed.sent())
    del sent["notes"]
    assert Handed.read(json.dumps(sent).encode()).notes == ()
