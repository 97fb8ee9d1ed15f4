"""What `seams.py run` renders: takes of known scenes, planned and done by the farm's own code in this process.

The real planner lays a take out with the real strategy plugins, and the renderer's own workbench does its tasks with
the real rendering plugins (renderer.local); what a farm adds (daemon, Ray, agents, transport) moves the same
files without a change and isn't here. Frames are kept as the decoder made them: the output format is a plugin that writes
them as they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import _root  # noqa: F401 - before training
import av
import numpy as np
from PIL import Image
from seam_statistics import Seam
from seam_takes import CROSSFADE, FPS, Take

from farm.hookspecs import hookimpl
from farm.model_facts import ModelFacts
from farm.plan import SEGMENT, VIDEO, JobPart, ShownFrames, TaskKind, media_name
from farm.planning import OutputFacts, Plan
from farm.plugins import catalogue, planning_plugins, rendering_plugins
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.timeline import TEMPORAL, Cut, frame_span
from renderer.local import LocalJob
from renderer.work import Workbench
from renderer.work_folder import model_cache
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.denoising import DEFAULT_GUIDANCE
from scheduler.planning.plan import make_plan, strategy_of
from scheduler.planning.windows import seams
from training.ltx_tiny.measure import psnr

MODEL = "ltx-tiny"


def seams_of(plan: Plan) -> list[Seam]:
    """Where the plan's windows hand over, in positions of delivered frames, those of its storyboard after the others.

    A join may hand over anywhere among the latents that two neighbours share, so a seam is every step that can
    make: from the one into the first frame of those latents to the one out of their last.
    """
    lead = JobPart.of(plan.shared).lead
    found = []
    for kind in (TaskKind.WINDOW, TaskKind.STORYBOARD):
        cuts = sorted(
            (Cut(task.start, task.stop) for task in plan.tasks if task.kind is kind),
            key=lambda cut: cut.start,
        )
        found += [positions_of(seam, lead) for seam in seams(cuts)]
    return found


def positions_of(seam: Cut, lead: int = 0) -> Seam:
    """The positions at which latents handed over in ``seam`` can show, ``lead`` rendered frames being cut off."""
    first, stop = frame_span(seam.start, seam.stop)
    return Seam(first - lead, stop - lead)


def fades_of(prompt_frames: Sequence[ShownFrames]) -> list[Seam]:
    """The positions at which one prompt gives way to the next, from what a plan's frames show.

    With the latent before it and the one after it: a decoder looks to both sides, and ltx-tiny's videos begin to change
    there, as seen at 256x160.
    """
    return [
        Seam(max(2, span.first - TEMPORAL), span.last + 1 + TEMPORAL)
        for span in prompt_frames
        if len(span.prompts) > 1
    ]


@dataclass(frozen=True)
class Job:
    """A take as one strategy makes it: what was asked for, the plan of it, and its media.

    ``media`` is where each condition of the plan lies, ``pixels`` what it shows, uint8 RGB [F, H, W, 3] each.
    """

    fields: Mapping[str, Any]
    media: tuple[PreparedMedia, ...]
    pixels: tuple[np.ndarray, ...]
    plan: Plan

    @property
    def key(self) -> str:
        """Hash of all that shapes the video: the plan, which names weights and media by their own hashes."""
        return hashlib.sha256(json.dumps(asdict(self.plan), sort_keys=True).encode()).hexdigest()


class Join(NamedTuple):
    """How two windows were joined: ``how`` as the join task tells it.

    ``healed``: the positions at which latents that were made anew can show, None where none were.
    """

    how: str
    healed: Seam | None


class Rendered(NamedTuple):
    """A video as it came out: ``frames`` uint8 RGB [F, H, W, 3].

    ``halo_db`` is how near its spans are to one undivided decode, the PSNR in dB of the frame that differs most, at
    most 99 (no difference), NaN where it wasn't asked for; ``joins`` how each pair of windows was joined.
    """

    frames: np.ndarray
    halo_db: float = math.nan
    joins: tuple[Join, ...] = ()


class Studio:
    """Plans takes and renders them, with one warm model on the CPU.

    ``folder`` holds the model's weights; those that come with the farm by default. ``settings`` are fields that every
    job gets, such as {"sampler": "heun"}.
    """

    def __init__(self, threads: int, folder: Path | None = None, settings: Mapping[str, Any] | None = None):
        self._settings = dict(settings or {})
        planning, rendering = planning_plugins(), rendering_plugins()
        for plugins in (planning, rendering):
            plugins.register(_Frames())
        self._offers = catalogue(planning)
        self.model = self._offers.models[MODEL]
        shipped = planning.hook.farm_default_source(model=MODEL, cache=model_cache())
        self.source = shipped if folder is None else str(folder)
        self.weights = planning.hook.farm_weights_hash(model=MODEL, source=self.source, cache=model_cache())
        device = DeviceInfo(backend="cpu", index=0, threads=threads, vram_bytes=0)
        self._workbench = Workbench(planning, rendering, device, model_cache())

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies that are installed."""
        return tuple(self._offers.strategies)

    def job(self, take: Take, strategy: str, window: int, overlap: int, steps: int | None = None) -> Job:
        """The take as ``strategy`` plans it, window and overlap in latents.

        Raises InvalidSpec for what the farm would refuse.
        """
        fields = {
            "frames": take.frames,
            "width": take.size[0],
            "height": take.size[1],
            "prompt": take.prompts[0],
            "seed": take.noise,
            "steps": steps,
            "strategy": strategy,
            "window_latents": window,
            "overlap_latents": overlap,
        }
        later = [{"frame": frame, "text": text} for frame, text in zip(take.changes, take.prompts[1:])]
        if later:
            fields |= {"later_prompts": later, "crossfade_frames": CROSSFADE}
        return self.planned(fields, take.given_pixels(window, overlap))

    def planned(self, fields: Mapping[str, Any], given: Sequence[tuple[int, np.ndarray]]) -> Job:
        """The job of a spec's ``fields``, made from ``given``: uint8 RGB [F, H, W, 3] and the frame each begins at.

        What ``fields`` leave out is as the farm has it by default. Raises InvalidSpec for what the farm would refuse.
        """
        media = tuple(_prepared(frame, pixels) for frame, pixels in given)
        pixels = tuple(shown for _, shown in given)
        conditions = [{"media": {"artifact_id": one.artifact_id}, "frame": one.frame} for one in media]
        whole = {
            "model": MODEL,
            "fps": FPS,
            "output": _Frames.name,
            "conditions": conditions,
            **fields,
            **self._settings,
        }
        return Job(whole, media, pixels, self._plan(whole, media, self.model))

    @contextlib.contextmanager
    def at_work(self, job: Job) -> Iterator[LocalJob]:
        """The job, for its tasks to be done, in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory(prefix="seams-") as folder:
            place = Path(folder)
            media = {
                media_name(index): _write(place / f"condition-{index}", pixels)
                for index, pixels in enumerate(job.pixels)
            }
            work = partial(self._workbench.perform, sources={MODEL: self.source})
            yield LocalJob(job.plan.shared, place, work, media)

    def render(self, job: Job, *, undivided: bool = False) -> Rendered:
        """The job's video; ``undivided``: decoded in one span too, to be compared."""
        with self.at_work(job) as local:
            local.perform(job.plan.tasks)
            made = rendered(job.plan, local)
            if not undivided:
                return made
            # The same latents in one span: all else in the plan is as before.
            whole = self._plan(job.fields, job.media, replace(self.model, decode_span=job.plan.latents))
            (decode,) = (task for task in whole.tasks if task.kind is TaskKind.DECODE)
            local.perform([decode])
            one = np.load(local.files[decode.key, SEGMENT])
        return made._replace(halo_db=min(99.0, *(psnr(*pair) for pair in zip(made.frames, one, strict=True))))

    def _plan(self, fields: Mapping[str, Any], media: Sequence[PreparedMedia], model: ModelFacts) -> Plan:
        spec = parse_spec(dict(fields))
        return make_plan(
            spec,
            model=model,
            weights=self.weights,
            strategy=self._offers.strategies[strategy_of(spec)],
            output=self._offers.outputs[_Frames.name],
            media=media,
            sampler=self._offers.samplers[spec.sampler or model.sampler],
            guidance=self._offers.guidances[spec.guidance or DEFAULT_GUIDANCE],
            offers=self._offers.offers(),
        )


def rendered(plan: Plan, local: LocalJob) -> Rendered:
    """What came of a plan, all of whose tasks are done."""
    told = [local.facts[task.key] for task in plan.tasks if task.kind is TaskKind.JOIN]
    lead = JobPart.of(plan.shared).lead
    joins = [
        Join(facts["how"], positions_of(Cut(*facts["healed"]), lead) if facts["healed"] else None)
        for facts in told
    ]
    return Rendered(np.load(local.files["mux", VIDEO]), joins=tuple(joins))


class _Frames:
    """An output format: frames as the decoder made them, uint8 [F, H, W, 3] in a NumPy file."""

    name = "frames"

    @hookimpl
    def farm_outputs(self) -> list[OutputFacts]:
        return [OutputFacts(name=self.name, summary="frames as they are", suffix=".npy", bytes_per_pixel=3.0)]

    @hookimpl
    def farm_open_output(self, output: str) -> _Frames | None:
        return self if output == self.name else None

    def write_segment(
        self,
        frames: Iterable[np.ndarray],
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        threads: int,
    ) -> None:
        np.save(path, np.stack(list(frames)))

    def join_segments(
        self, segments: list[Path], path: Path, *, frames: int, fps: Fraction, sidecar: dict[str, Any]
    ) -> None:
        joined = np.concatenate([np.load(segment) for segment in segments])
        if len(joined) != frames:
            raise ValueError(f"the segments hold {len(joined)} frames, not the {frames} expected")
        np.save(path, joined)


def _prepared(frame: int, pixels: np.ndarray) -> PreparedMedia:
    return PreparedMedia(hashlib.sha256(pixels.tobytes()).hexdigest(), frame, len(pixels), strength=1.0)


def _write(path: Path, frames: np.ndarray) -> Path:
    """Frames as a file that holds them without loss: one as an image, more as a clip."""
    if len(frames) == 1:
        path = path.with_suffix(".png")
        Image.fromarray(frames[0]).save(path)
        return path
    path = path.with_suffix(".mkv")
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path
