"""How `farmctl submit --dry-run` shows a plan to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import click

from farm.cli.printing import declared_devices, duration, marker, print_table, say, size, weights
from farm.cli.prompts import frame_lines
from farm.client import FarmClient
from farm.planning import TaskKind
from farm.v1 import jobs_pb2


def print_plan(client: FarmClient, plan: jobs_pb2.PlanSummary) -> None:
    """Print the plan of a job for people: a summary, then a table of its windows."""
    counts = Counter(task.kind for task in plan.tasks)
    mark = marker(declared_devices(client.nodes()))
    devices = ", ".join(mark(place) for place in plan.fitting_devices)
    lines = {
        "strategy": plan.strategy,
        "model": f"{plan.model} {plan.precision}"
        + (f", weights {weights(plan.weights)}" if plan.weights else ""),
        "sampler": plan.sampler,
        "guidance": plan.guidance,
        "steps": steps_line(plan),
        "renders": f"{plan.render_frames} frames ({plan.latents} latents) at {plan.render_width}x{plan.render_height}",
        "tasks": ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        "devices": devices or "no device of this farm fits; the job would wait",
        "time": f"about {duration(plan.estimated_seconds)}"
        if plan.HasField("estimated_seconds")
        else "unknown: no fitting device is online",
        "disk": f"about {size(plan.estimated_bytes)}",
    }
    if prompts := frame_lines(plan.shown_prompts):
        lines["prompts"] = "\n           ".join(prompts)
    for key, value in lines.items():
        # A farm of an earlier version says nothing of samplers and passes.
        if value:
            say(f"{key + ':':<11}{value}")
    click.echo()
    windows = [task for task in plan.tasks if task.kind in (TaskKind.STORYBOARD, TaskKind.WINDOW)]
    print_table(
        ("WINDOW", "LATENTS", "NEEDS", "TFLOP", "MEMORY"),
        (
            (
                task.key,
                f"{task.start}-{task.stop}",
                ", ".join(task.needs) or "-",
                f"{task.flops / 1e12:.2f}",
                size(task.vram_bytes),
            )
            for task in windows
        ),
        "no windows",
        keep=("WINDOW",),
    )


def steps_line(plan: jobs_pb2.PlanSummary) -> str:
    """Return how many steps and forward passes the job takes, as text such as "27 steps, 62 passes a window".

    If windows differ in their steps, the text gives each number. The storyboard is named only if it differs from the
    windows. The text is empty if the job renders nothing.
    """
    windows = _counts(task for task in plan.tasks if task.kind == TaskKind.WINDOW)
    drawing = _counts(task for task in plan.tasks if task.kind == TaskKind.STORYBOARD)
    said = [f"{' or '.join(windows)} a window"] if windows else []
    if drawing and drawing != windows:
        said.append(f"{' or '.join(drawing)} for the storyboard")
    if said and plan.passes:
        said.append(f"{plan.passes} passes in all")
    return "; ".join(said)


def _counts(tasks: Iterable[jobs_pb2.PlannedTask]) -> list[str]:
    """Return the different numbers of steps and passes of tasks, in words."""
    found = dict.fromkeys((task.steps, task.passes) for task in tasks if task.steps)
    return [f"{_some(steps, 'step')}, {_some(passes, 'pass')}" for steps, passes in found]


def _some(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun == 'pass' else 's'}"
