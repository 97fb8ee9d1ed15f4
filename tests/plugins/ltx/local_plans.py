"""Whole plans rendered in this process, for tests that look at their frames or at what their tasks made."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from farm.plan import JobPart, TaskKind, media_name
from farm.planning import Plan
from farm.plugins import catalogue, planning_plugins
from plugins.ltx.rendering import LtxModel
from renderer.local import LocalJob, by_model

OFFERS = catalogue(planning_plugins())


def local_job(model: LtxModel, plan: Plan, folder: Path) -> LocalJob:
    """The plan's job, none of whose tasks is done. Its media lie in `folder`: 0.mp4, 1.mp4, …"""
    conditions = JobPart.of(plan.shared).conditions
    media = {media_name(index): folder / f"{index}.mp4" for index in range(len(conditions))}
    return LocalJob(plan.shared, folder, by_model(model), media)


def latents_made(model: LtxModel, plan: Plan, folder: Path) -> LocalJob:
    """The plan's job with every task done that makes latents."""
    job = local_job(model, plan, folder)
    job.perform(task for task in plan.tasks if task.kind not in (TaskKind.DECODE, TaskKind.MUX))
    return job


def decoded(model: LtxModel, plan: Plan, job: LocalJob) -> np.ndarray:
    """The job's frames, uint8 [frames, height, width, 3]."""
    decodes = [task for task in plan.tasks if task.kind is TaskKind.DECODE]
    return np.array([frame for task in decodes for frame in model.decode(job.context(task))])


def rendered(model: LtxModel, plan: Plan, folder: Path) -> np.ndarray:
    """The plan's frames, uint8 [frames, height, width, 3]."""
    return decoded(model, plan, latents_made(model, plan, folder))
