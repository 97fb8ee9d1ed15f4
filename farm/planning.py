"""The contract between planning plugins and the scheduler.

Plugins describe models (farm.model_facts) and output formats. Their strategies divide a video into windows (the parts
that are denoised). From all this the scheduler makes a job's plan. The plan is stored with the job as JSON, and fixes
everything that shapes the job's result.

Nothing in this module needs torch.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

# Plugins may import LearntSizes and Placing from here for one more release.
from farm.model_facts import LearntSizes as LearntSizes
from farm.model_facts import ModelFacts
from farm.model_facts import Placing as Placing
from farm.options import NONE, Options
from farm.plan import ColourReference, JobJson, Payload, Tail, TaskKind, lockstep_group
from farm.policy.gist import gist
from farm.timeline import Cut, tokens_of


class PlanFailed(Exception):
    """A strategy or the planner failed with an unexpected exception. The job's spec is not at fault."""

    def __init__(self, strategy: str, cause: Exception):
        """Make the error from the exception `cause` of the strategy named `strategy`."""
        said = gist("".join(traceback.format_exception(cause)))
        super().__init__(
            f"strategy: {strategy!r} could not plan this job: {said}; nothing was stored. farmd's log has the whole error; "
            "try another --strategy"
        )


@dataclass(frozen=True)
class Head:
    """The beginning of a finished window, to which the window before it in the video must lead up.

    The later window is denoised first. This is how a chain of windows grows backwards in time.

    Attributes:
        key: The task key of the later window, which is denoised first.
        strength: How firmly the earlier window keeps to the latents that both windows share, from 0 to 1.
    """

    key: str
    strength: float


@dataclass(frozen=True)
class Base:
    """Latents from which a window's denoising begins, instead of pure noise.

    Noise is mixed into these latents until they have the noise level `sigmas[0]` of the window.

    Attributes:
        keys: The task keys of the storyboard's windows, whose latents are enlarged to make these latents. Empty: these
            latents come from the video that the job restyles.
    """

    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sink:
    """A latent of a single frame, which a window sees as if the latent lay before the window's start.

    The latent is the first latent of the video, or of a clip or image given with the job. Seeing this latent keeps the
    look of the video from drifting from window to window.

    Attributes:
        key: The key of the earlier window that made the latent. None if the latent comes from a condition (a clip or
            image given with the job).
        condition: The index of that clip or image among the job's conditions; None if `key` is given.
        latent: The index of the latent, counted from the start of the video.
        frames: The distance from the window's start back to the latent, in pixel frames.
        strength: How firmly the window keeps to the latent, from 0 to 1.
    """

    key: str | None
    condition: int | None
    latent: int
    frames: int
    strength: float


@dataclass(frozen=True)
class Window:
    """One window to denoise.

    Attributes:
        key: The key of the window's task.
        kind: TaskKind.STORYBOARD or TaskKind.WINDOW.
        stage: The number of the pass over the timeline. Each pass over the same latents gets different noise.
        start: Index of the window's first latent, counted from the start of the video.
        stop: Index after the window's last latent, counted likewise.
        width: Width in pixels, a multiple of 32.
        height: Height in pixels, a multiple of 32.
        sigmas: The denoising schedule: sigmas that fall to 0. The first is the noise level at which denoising begins.
        tail: The end of an earlier window, which this window continues; None: it continues no window.
        head: The beginning of a later window, to which this window leads up; None: it leads up to no window.
        base: The latents that this window refines; None: it begins with pure noise.
        colour: The window towards which this window's colours are moved; None: the colours aren't moved.
        sink: The latent that this window sees as if it lay before the window's start; None: no sink.
        model: The name of the model that denoises the window; empty: the job's model.
        group: The name of the window's lockstep group. The windows of a group are denoised together, step by step.
            Empty: the window is denoised by itself.
    """

    key: str
    kind: TaskKind
    stage: int
    start: int
    stop: int
    width: int
    height: int
    sigmas: tuple[float, ...]
    tail: Tail | None = None
    head: Head | None = None
    base: Base | None = None
    colour: ColourReference | None = None
    sink: Sink | None = None
    model: str = ""
    group: str = ""

    @property
    def tokens(self) -> int:
        """The number of latent tokens in the window."""
        return tokens_of(self.stop - self.start, self.width, self.height)

    @property
    def needs(self) -> tuple[str, ...]:
        """The keys of the windows that must be done before this one."""
        keys = list(self.base.keys) if self.base else []
        keys += [self.tail.key] if self.tail else []
        keys += [self.head.key] if self.head else []
        keys += [self.colour.key] if self.colour else []
        keys += [self.sink.key] if self.sink and self.sink.key else []
        return tuple(dict.fromkeys(keys))


@dataclass(frozen=True)
class Anchor:
    """A clip or image given at strength 1, and its place among the latents of the video.

    All latents are counted from the start of the video.

    Attributes:
        condition: The index of the clip or image among the job's conditions.
        start: The first latent that shows a part of the clip or image.
        stop: A window that begins at this latent or later shows no part of the clip or image. For a single frame,
            `stop` can equal `start`, because a window's first latent encodes one frame, not eight.
        first: The first latent of the encoded clip or image. This latent encodes a single frame.
    """

    condition: int
    start: int
    stop: int
    first: int

    def lies_in(self, cut: Cut) -> bool:
        """Return whether a window that covers the latents of `cut` shows any part of the clip or image."""
        return cut.start < self.stop and self.start < cut.stop


@dataclass(frozen=True)
class Timeline:
    """The timeline that a strategy lays out in windows.

    Attributes:
        latents: The length of the timeline in latents.
        width: Width in pixels, a multiple of 32.
        height: Height in pixels, a multiple of 32.
        fps: Frames a second.
        window: The length of a window in latents.
        overlap: The number of latents that neighbouring windows share.
        cuts: The range of latents that each window of the video covers, sorted by start. Windows of a storyboard (a
            small draft of the whole timeline) are left out.
        sigmas: The whole denoising schedule.
        model: The job's model.
        prompts: The number of different prompts that the video follows, one after another.
        source_sigma: The sigma at which denoising begins if the job restyles a given video. Such a job has no
            storyboard. None for all other jobs.
        given: The clips and images given at strength 1, the longest first. In a chain of windows, each window after
            the first continues another window. A chain should begin at the longest clip or image.
        storyboard: The model that draws the storyboard; None: the job's model.
        storyboard_sigmas: The schedule of the storyboard's model; empty: `sigmas`.
        options: The job's options for the strategy.
    """

    latents: int
    width: int
    height: int
    fps: float
    window: int
    overlap: int
    cuts: tuple[Cut, ...]
    sigmas: tuple[float, ...]
    model: ModelFacts
    prompts: int = 1
    source_sigma: float | None = None
    given: tuple[Anchor, ...] = ()
    storyboard: ModelFacts | None = None
    storyboard_sigmas: tuple[float, ...] = ()
    options: Options = NONE

    def sigmas_from(self, start: float) -> tuple[float, ...]:
        """Return the denoising schedule for refining latents that are re-noised to the sigma `start`.

        The schedule never begins above `sigmas[0]`. A distilled model can begin only at certain sigmas (`grid` of
        ModelFacts). With such a model, the schedule begins at the allowed sigma that is nearest to `start`.
        """
        known = [sigma for sigma in self.model.grid if sigma <= self.sigmas[0] + 1e-6]
        nearest = min(known, key=lambda sigma: abs(sigma - start), default=start)
        return from_sigma(self.sigmas, min(nearest, self.sigmas[0]))


def from_sigma(sigmas: Sequence[float], start: float) -> tuple[float, ...]:
    """Return a denoising schedule that begins at `start` and goes on with all lower sigmas of `sigmas`.

    Args:
        sigmas: A falling schedule.
        start: The sigma to begin at.

    Raises:
        ValueError: `start` is 0 or less, or above `sigmas[0]`.
    """
    if not 0 < start <= sigmas[0]:
        raise ValueError(f"the start sigma must be above 0 and at most {sigmas[0]}, got {start}")
    # A step a hair below the start would be a wasted forward pass.
    return (start, *(sigma for sigma in sigmas if sigma < start - 1e-6))


class Strategy(Protocol):
    """A way to lay out a timeline in windows. Planning plugins offer strategies.

    Attributes:
        name: The name by which jobs ask for the strategy.
        summary: What the strategy does, for people.
    """

    name: str
    summary: str

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Lay out the timeline of a job.

        Returns:
            The windows. Each window comes after all windows that it needs. There is exactly one window of kind WINDOW
            for each range in the timeline's `cuts`.
        """
        ...


@dataclass(frozen=True)
class OutputFacts:
    """The facts of an output format that planning needs.

    Attributes:
        name: The name by which jobs ask for the format.
        summary: What the format is, for people.
        suffix: The ending of the delivered file, such as ".mp4".
        bytes_per_pixel: The file's expected size in bytes per pixel, used to estimate disk space.
    """

    name: str
    summary: str
    suffix: str
    bytes_per_pixel: float


@dataclass(frozen=True)
class PlannedTask:
    """One task of a job's graph.

    Attributes:
        key: The task's name within its job, such as "window/3".
        kind: The kind of work.
        needs: The keys of the tasks that must be done first.
        payload: The part of the plan for this task, as JSON (see farm.plan). A renderer gets it with the task's inputs.
        start: Index of the first latent that the task makes or decodes, counted from the start of the video.
        stop: Index after the last latent that the task makes or decodes. In the mux task, `start` and `stop` span all
            latents. In the encode task, both are 0.
        flops: FLOPs of the work.
        vram_bytes: Device memory that the work needs, in bytes.
        fp8: Whether the task needs a device that multiplies matrices in fp8.
        model: The name of the model that does the task; empty: the plan's `model`.
        weights: The hash of that model's weights; empty: the plan's `weights`.
        steps: Denoising steps; 0 for a task that doesn't denoise.
        passes: Forward passes of the model in those steps. 0 for a task that joins two windows, even if it renders
            the latents around the seam again.
    """

    key: str
    kind: TaskKind
    needs: tuple[str, ...]
    payload: Payload
    start: int = 0
    stop: int = 0
    flops: float = 0.0
    vram_bytes: int = 0
    fp8: bool = False
    model: str = ""
    weights: str = ""
    steps: int = 0
    passes: int = 0

    @property
    def group(self) -> str:
        """The task's lockstep group within its job; empty if the task is done by itself."""
        return lockstep_group(self.payload)


@dataclass(frozen=True)
class Plan:
    """The plan of a job: everything that shapes its result.

    Attributes:
        strategy: The strategy that laid out the windows.
        model: The job's model.
        weights: The hash of that model's weights.
        precision: The precision in which the model runs, such as "bf16".
        render_width: Width in pixels at which the job is rendered, a multiple of 32.
        render_height: Height in pixels at which the job is rendered, a multiple of 32.
        render_frames: Pixel frames that are rendered, 8n+1.
        latents: The length of the timeline in latents.
        shared: The part of the plan that all tasks share, as JSON (see farm.plan.JobPart).
        tasks: The tasks. Each task comes after all tasks that it needs.
        notes: Sentences for the person who submits the job.
        estimated_bytes: Disk space that the job's artifacts take, in bytes.
        sampler: The name of the sampler.
        guidance: The name of the guidance.
    """

    strategy: str
    model: str
    weights: str
    precision: str
    render_width: int
    render_height: int
    render_frames: int
    latents: int
    shared: JobJson
    tasks: tuple[PlannedTask, ...]
    notes: tuple[str, ...] = ()
    estimated_bytes: int = 0
    sampler: str = ""
    guidance: str = ""
