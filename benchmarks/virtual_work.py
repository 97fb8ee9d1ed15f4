"""A plan's tasks as the virtual farm sees them: what each fetches, what it makes, how large that is. Pure.

It says what plugins.ltx.rendering and renderer.work do with a plan. Prompts are taken to be as long as the model
allows; the farm stores no more tokens than there are.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from farm.model_facts import ModelFacts, value_bytes
from farm.plan import (
    EMBEDDINGS,
    EXCHANGE,
    LATENTS,
    SEGMENT,
    SIDECAR,
    VIDEO,
    DecodeTask,
    EncodeTask,
    JobPart,
    JoinTask,
    MuxTask,
    Piece,
    TaskKind,
    WindowTask,
)
from farm.planning import OutputFacts, Plan, PlannedTask

Name = tuple[str, str]
"""An artifact: the key of the task that makes it, and what it is to that task."""

OUTPUTS = frozenset({SEGMENT, VIDEO, SIDECAR})
"""Artifacts that are what was asked for, or parts of it."""

TEXT_WIDTH = 4096
"""Width of T5-XXL's embeddings, which every released model reads."""


@dataclass(frozen=True)
class Work:
    """A planned task with what it fetches, in its order, and the bytes of what it makes, by artifact name.

    `model_bytes`: of the model it is done with, when that is loaded; 0: with none.
    """

    task: PlannedTask
    reads: tuple[Name, ...] = ()
    makes: Mapping[str, int] = field(default_factory=dict)
    model_bytes: int = 0


def work_of(plan: Plan, models: Mapping[str, ModelFacts], output: OutputFacts) -> tuple[Work, ...]:
    """A plan's tasks with what plugins.ltx.rendering and renderer.work fetch and make for them.

    Latents are files of a whole task, whatever part of them is read. Raises ValueError for a job with
    media, whose size a plan doesn't know.
    """
    job = JobPart.of(plan.shared)
    if job.conditions:
        raise ValueError("conditions: only a job without media can be simulated")
    given = _given(plan.tasks)
    return tuple(
        Work(
            # The plan names its own model where a task's is left out; here that one is warm.
            replace(task, model="" if task.model == plan.model else task.model),
            tuple(dict.fromkeys(_reads(task))),
            _makes(task, plan, job, given[task.key], models[plan.model], output),
            models[task.model or plan.model].load_bytes(task.kind, plan.precision),
        )
        for task in plan.tasks
    )


def _reads(task: PlannedTask) -> list[Name]:
    match task.kind:
        case TaskKind.STORYBOARD | TaskKind.WINDOW:
            window = WindowTask.of(task.payload)
            keys = _sides(window.base.pieces) if window.base else []
            keys += [other.key for other in (window.tail, window.colour, window.sink) if other]
            return [("encode", EMBEDDINGS), *((key, LATENTS) for key in keys)]
        case TaskKind.JOIN:
            join = JoinTask.of(task.payload)
            return [(join.left, LATENTS), (join.right, LATENTS)]
        case TaskKind.DECODE:
            decode = DecodeTask.of(task.payload)
            return [(key, LATENTS) for key in [*_sides(decode.pieces), *decode.patches]]
        case TaskKind.MUX:
            return [(key, SEGMENT) for key in MuxTask.of(task.payload).segments]
    return []


def _sides(pieces: Sequence[Piece]) -> list[str]:
    return [side for piece in pieces for side in (piece.left, piece.right) if side]


def _makes(
    task: PlannedTask, plan: Plan, job: JobPart, given: int, model: ModelFacts, output: OutputFacts
) -> dict[str, int]:
    """`given`: bytes that a window in lockstep gives its neighbours each round."""

    def latents(told: WindowTask | JoinTask, width: int, height: int) -> dict[str, int]:
        return {LATENTS: model.latent_bytes(told.stop - told.start, width, height, plan.precision)}

    def pixels(frames: int) -> int:
        return int(frames * job.width * job.height * output.bytes_per_pixel)

    match task.kind:
        case TaskKind.ENCODE:
            value = value_bytes(plan.precision)
            prompts = len(job.prompts) + EncodeTask.of(task.payload).negative
            return {EMBEDDINGS: prompts * model.text_tokens * (TEXT_WIDTH * value + 1)}
        case TaskKind.STORYBOARD | TaskKind.WINDOW:
            window = WindowTask.of(task.payload)
            made = latents(window, window.width, window.height)
            if window.lockstep:
                made[EXCHANGE] = given * len(window.sigmas)
            return made
        case TaskKind.JOIN:
            return latents(JoinTask.of(task.payload), plan.render_width, plan.render_height)
        case TaskKind.DECODE:
            decode = DecodeTask.of(task.payload)
            return {SEGMENT: pixels(decode.last - decode.first)}
        case TaskKind.MUX:
            return {VIDEO: pixels(job.frames), SIDECAR: len(json.dumps(plan.shared))}
    raise ValueError(f"kind: what a {task.kind} makes is not known here")


def _given(tasks: Sequence[PlannedTask]) -> Counter[str]:
    """Bytes that each window in lockstep gives all its neighbours each round, by its key."""
    given: Counter[str] = Counter()
    for task in tasks:
        if task.group and (lockstep := WindowTask.of(task.payload).lockstep):
            for part in lockstep.shared:
                given[part.key] += part.bytes
    return given
