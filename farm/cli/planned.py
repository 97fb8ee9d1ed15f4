"""How `farmctl submit --dry-run` shows a plan to people."""

from __future__ import annotations

from collections import Counter

import click

from farm.cli.job_settings import SHORT, settings_lines
from farm.cli.printing import counted, declared_devices, duration, marker, print_table, say, size, weights
from farm.cli.prompts import frame_lines
from farm.client import FarmClient
from farm.outside_text import shown
from farm.plan import TaskKind
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
        **settings_lines(plan.settings),
        "renders": f"{counted(plan.render_frames, 'frame')} ({counted(plan.latents, 'latent')}) "
        f"at {plan.render_width}x{plan.render_height}",
        "tasks": ", ".join(f"{count} {kind}" for kind, count in counts.items()),
        "devices": devices or "no device of this farm fits; the job would wait",
        "time": f"about {duration(plan.estimated_seconds)}"
        if plan.HasField("estimated_seconds")
        else "unknown: no fitting device is online",
        "disk": f"about {size(plan.estimated_bytes)}",
    }
    if prompts := frame_lines(plan.shown_prompts):
        lines["prompts"] = "\n           ".join(prompts)
    elif plan.shown_prompts:
        lines["prompt"] = shown(plan.shown_prompts[0].prompts[0], SHORT)
    for key, value in lines.items():
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
