"""A plan's tasks as the virtual farm sees them: what each fetches, what it makes, how large that is. Pure.

It says what plugins.ltx.rendering and renderer.work do with a plan. Prompts are taken to be as long as the model
allows; the farm stores no more tokens than there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from farm.planning import ModelFacts, OutputFacts, Plan, PlannedTask, TaskKind, value_bytes

Name = tuple[str, str]
"""An artifact: the key of the task that makes it, and what it is to that task."""

OUTPUTS = frozenset({"segment", "video", "sidecar"})
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
    if plan.shared["conditions"]:
        raise ValueError("conditions: only a job without media can be simulated")
    return tuple(
        Work(
            # The plan names its own model where a task's is left out; here that one is warm.
            replace(task, model="" if task.model == plan.model else task.model),
            tuple(dict.fromkeys(_reads(task))),
            _makes(task, plan, models[plan.model], output),
            models[task.model or plan.model].load_bytes(task.kind, plan.precision),
        )
        for task in plan.tasks
    )


def _reads(task: PlannedTask) -> list[Name]:
    payload = task.payload
    match task.kind:
        case TaskKind.STORYBOARD | TaskKind.WINDOW:
            keys = _sides(payload["base"]["pieces"]) if payload["base"] else []
            keys += [payload["tail"]["key"]] if payload["tail"] else []
            keys += [payload["colour"]["key"]] if payload["colour"] else []
            keys += [payload["sink"]["key"]] if payload["sink"] else []
            return [("encode", "embeddings"), *((key, "latents") for key in keys)]
        case TaskKind.JOIN:
            return [(payload[side], "latents") for side in ("left", "right")]
        case TaskKind.DECODE:
            return [(key, "latents") for key in [*_sides(payload["pieces"]), *payload["patches"]]]
        case TaskKind.MUX:
            return [(key, "segment") for key in payload["segments"]]
    return []


def _sides(pieces: Sequence[Mapping]) -> list[str]:
    return [piece[side] for piece in pieces for side in ("left", "right") if piece[side]]


def _makes(task: PlannedTask, plan: Plan, model: ModelFacts, output: OutputFacts) -> dict[str, int]:
    payload, shared = task.payload, plan.shared

    def latents(width: int, height: int) -> dict[str, int]:
        latents = payload["stop"] - payload["start"]
        return {"latents": model.latent_bytes(latents, width, height, plan.precision)}

    def pixels(frames: int) -> int:
        return int(frames * shared["width"] * shared["height"] * output.bytes_per_pixel)

    match task.kind:
        case TaskKind.ENCODE:
            value = value_bytes(plan.precision)
            prompts = len(shared["prompts"]) + payload["negative"]
            return {"embeddings": prompts * model.text_tokens * (TEXT_WIDTH * value + 1)}
        case TaskKind.STORYBOARD | TaskKind.WINDOW:
            made = latents(payload["width"], payload["height"])
            if payload["lockstep"]:
                given = sum(
                    part["bytes"]
                    for other in plan.tasks
                    if other.group
                    for part in other.payload["lockstep"]["shared"]
                    if part["key"] == task.key
                )
                made["exchange"] = given * len(payload["sigmas"])
            return made
        case TaskKind.JOIN:
            return latents(plan.render_width, plan.render_height)
        case TaskKind.DECODE:
            return {"segment": pixels(payload["to"] - payload["from"])}
        case TaskKind.MUX:
            return {"video": pixels(shared["frames"]), "sidecar": len(json.dumps(dict(shared)))}
    raise ValueError(f"kind: what a {task.kind} makes is not known here")
