"""What tasks are told, for tests that plan no job: all of it, most of it unimportant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from farm.plan import JobJson, JobPart, WindowTask

JOB = JobPart(
    model="counter",
    weights="",
    precision="fp32",
    strategy="autoregressive",
    seed=7,
    fps="30000/1001",
    frames=5,
    lead=0,
    width=4,
    height=2,
    render_width=32,
    render_height=32,
    latents=2,
    prompts=("a whale",),
    negative_prompt="",
    guidance_scale=1.0,
    output="raw",
    source=None,
    conditions=(),
)

WINDOW = WindowTask(
    stage=0,
    start=0,
    stop=2,
    width=32,
    height=32,
    sigmas=(1.0, 0.0),
    conditions=(),
    points=(),
    base=None,
    tail=None,
    head=None,
    colour=None,
    sink=None,
    guidance_scale=1.0,
    shows=((0, 2, ((0, 1.0),)),),
)


def job_part(**told: Any) -> JobJson:
    """Of a job that differs from JOB in `told`, what all its tasks are told, as it is stored."""
    return replace(JOB, **told).json()
