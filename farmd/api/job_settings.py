"""Reads the settings with which a job is denoised from the job's stored plan."""

from __future__ import annotations

from collections.abc import Iterable

from farm.json_values import Unreadable
from farm.options import options_of
from farm.plan import Denoised, JobJson, JobPart, Payload, TaskKind, denoised
from farm.plugins import Catalogue
from farm.spec import JobSpec
from farm.v1 import jobs_pb2
from scheduler.planning.denoising import CFG, EULER, Denoising


def job_settings(
    spec: JobSpec, shared: JobJson, tasks: Iterable[tuple[TaskKind, Payload]], catalogue: Catalogue
) -> jobs_pb2.JobSettings | None:
    """Return the settings with which a job is denoised, or None if this farm can't read the job's plan.

    Args:
        spec: The job's spec, filled in from its preset.
        shared: The part of the plan that all tasks share.
        tasks: The kind and the payload of each of the job's tasks.
        catalogue: The samplers and guidances that are installed. The result counts the passes of the model only if the
            job's sampler and guidance are among them.
    """
    counted: dict[str, tuple[TaskKind, Denoised, int]] = {}
    try:
        plan = JobPart.of(shared)
        for kind, payload in tasks:
            if kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
                how = denoised(payload)
                key = f"{kind} {how}"
                counted[key] = kind, how, counted[key][2] + 1 if key in counted else 1
    except Unreadable:
        return None
    found = jobs_pb2.JobSettings(
        preset=plan.preset,
        sampler=plan.sampler,
        guidance=plan.guidance,
        negative_prompt=plan.negative_prompt,
    )
    if spec.options:
        found.options.update(spec.options)
    for kind, how, count in counted.values():
        schedule = found.schedules.add(kind=kind, tasks=count, noise_levels=how.sigmas[:-1])
        try:
            denoising = _denoising(how, catalogue)
            schedule.passes = denoising.passes(how.sigmas)
            if kind == TaskKind.WINDOW and denoising.uses_scale:
                found.guidance_scale = how.guidance_scale
        # A plugin may be gone, or accept other options by now.
        except (KeyError, ValueError):
            continue
    return found


def _denoising(how: Denoised, catalogue: Catalogue) -> Denoising:
    sampler = catalogue.samplers[how.sampler.name] if how.sampler else EULER
    guidance = catalogue.guidances[how.guidance.name] if how.guidance else CFG
    return Denoising(
        how.guidance_scale,
        sampler,
        guidance,
        options_of(sampler).model_validate(how.sampler.options if how.sampler else {}),
        options_of(guidance).model_validate(how.guidance.options if how.guidance else {}),
    )
