"""Seams spoiled on purpose, for `seams.py run` to show that a join heals them.

Jobs of the hierarchical strategy, whose windows agree, are torn at their seams: the latents that two windows share
become those of two other scenes, one in either window. (Torn in one of them, as benchmarks/heal.py has it, most are
as good as new where the other is handed over to.) All else is as rendered, and the farm's own join task finds and
heals them. Windows are as long as ltx-tiny's may be, whatever those of the run are, which leaves as much room between
patches as can be: no stretch there is as long as a patch, so patches are judged in halves.
"""

from __future__ import annotations

import math
from dataclasses import replace

import _root  # noqa: F401 - before training
import seam_takes
from seam_jobs import Job, Rendered, Studio, rendered
from seam_takes import FPS, SCENES, Take

from farm.plan import LATENTS, JoinTask, TaskKind
from farm.timeline import frames_of
from plugins.ltx.latents import extent, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.vae import encode_clip
from renderer.local import LocalJob
from training.ltx_tiny.scenes import scene

STRATEGY = "hierarchical"
WINDOW = 16
FRAMES = frames_of(42)
SEAMS = 2
"""Of a video of so many frames in windows of so many latents."""

ELSEWHERE = {"left": 5_000, "right": 6_000}
"""The other scene of prompt n is the run's number n + this, by window of a seam."""


class Spoiler:
    """Renders torn videos. The VAE that encodes other scenes is loaded when the first is."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self._ltx: Ltx | None = None

    def takes(
        self, seams: int, prompts: int, size: tuple[int, int], first_seed: int, says: str = "caption"
    ) -> list[Take]:
        """Takes enough for so many seams; ``says`` as in Take."""
        videos = math.ceil(seams / SEAMS)
        some = seam_takes.takes(prompts, math.ceil(videos / prompts), size, FRAMES, first_seed, says)
        return some[:videos]

    def job(self, take: Take, overlap: int, steps: int | None) -> Job:
        """The take in windows to be torn. Raises InvalidSpec for what the farm would refuse."""
        return self._studio.job(take, STRATEGY, WINDOW, overlap, steps)

    def render(self, take: Take, job: Job, *, heal: bool) -> Rendered:
        """The job's video with all its seams torn; ``heal``: whether its joins may heal them."""
        tasks = job.plan.tasks
        denoised = (TaskKind.ENCODE, TaskKind.STORYBOARD, TaskKind.WINDOW)
        joins = [task for task in tasks if task.kind is TaskKind.JOIN]
        with self._studio.at_work(job) as local:
            local.perform(task for task in tasks if task.kind in denoised)
            for join in joins:
                seam = JoinTask.of(join.payload)
                for side, key in (("left", seam.left), ("right", seam.right)):
                    self._tear(take, job, local, seam, side, key)
            if not heal:
                joins = [
                    replace(task, payload=replace(JoinTask.of(task.payload), heal=None).payload())
                    for task in joins
                ]
            local.perform(joins)
            local.perform(task for task in tasks if task.kind in (TaskKind.DECODE, TaskKind.MUX))
            return rendered(job.plan, local)

    def _tear(self, take: Take, job: Job, local: LocalJob, seam: JoinTask, side: str, key: str) -> None:
        """Put another scene into what the window ``key`` at a ``side`` of the seam shares with the other."""
        if self._ltx is None:
            self._ltx = Ltx(self._studio.source, max_tokens=self._studio.model.text_tokens)
        path = local.files[key, LATENTS]
        latents, (begin, _) = load_latents(path), extent(path)
        first, stop = seam.start - begin, seam.stop - begin
        size = job.plan.render_width, job.plan.render_height
        other = scene(SCENES + ELSEWHERE[side] + take.prompt, size=size, fps=FPS)
        # A clip's first latent stands for one frame only.
        latents[:, first:stop] = encode_clip(self._ltx, other.render(0, frames_of(stop - first + 1)))[:, 1:]
        torn = path.with_name(f"torn-{side}.safetensors")
        local.files[key, LATENTS] = save_latents(torn, latents, begin, self._ltx.dtype)
