"""The contract between planning plugins and the scheduler.

Plugins describe models and output formats. Their strategies divide a video into windows (the parts that are denoised).
From all this the scheduler makes a job's plan. The plan is stored with the job as JSON, and fixes everything that
shapes the job's result.

Nothing in this module needs torch.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from farm.options import NONE, NoOptions, Options
from farm.plan import ColourReference, JobJson, Payload, Tail, lockstep_group
from farm.policy.gist import gist
from farm.timeline import Cut, frames_of, tokens_of


class PlanFailed(Exception):
    """A strategy or the planner failed with an unexpected exception. The job's spec is not at fault."""

    def __init__(self, strategy: str, cause: Exception):
        """Make the error from the exception `cause` of the strategy named `strategy`."""
        said = gist("".join(traceback.format_exception(cause)))
        super().__init__(
            f"strategy: {strategy!r} could not plan this job: {said}; nothing was stored. farmd's log has the whole error; "
            "try another --strategy"
        )


class TaskKind(StrEnum):
    """The kind of work that a task does. It is also the first part of the task's key."""

    ENCODE = "encode"  #: encodes prompts and media to embeddings and latents, once for each job
    STORYBOARD = "storyboard"  #: denoises a low-resolution window of the whole timeline
    WINDOW = "window"  #: denoises one window at the job's size
    JOIN = "join"  #: joins two windows at the latents that both share
    DECODE = "decode"  #: decodes a span of the timeline and encodes a segment
    MUX = "mux"  #: joins segments to the file that is delivered


STAGES = tuple(TaskKind)
"""All kinds, in the order in which a job goes through them."""


def weight_bytes(precision: str) -> int:
    """Return the size of a transformer weight in bytes. With fp8, only weights are fp8; the model computes in bf16."""
    return {"fp32": 4, "bf16": 2, "fp8": 1}[precision]


def value_bytes(precision: str) -> int:
    """Return the size in bytes of an activation or latent value. With fp8 these are bf16; only weights are fp8."""
    return max(weight_bytes(precision), 2)


@dataclass(frozen=True)
class LearntSizes:
    """The sizes that a model draws well: those it was trained on, or those its authors advise.

    Attributes:
        least: The shortest side in pixels that the model draws well; `SPATIAL` if no lower limit is known.
        largest: The largest size, as width and height in pixels. The model draws a size well if that size has
            no more pixels than `largest`, and no side longer than the longer side of `largest`.
        elsewhere: A warning about other sizes. It completes the sentence "its pictures ...", such as "may be worse".
    """

    least: int
    largest: tuple[int, int]
    elsewhere: str

    def hold(self, width: int, height: int) -> bool:
        """Return whether the model draws `width` x `height` pixels well. Portrait and landscape are judged alike."""
        return (
            self.least <= min(width, height)
            and max(width, height) <= max(self.largest)
            and width * height <= self.largest[0] * self.largest[1]
        )


@dataclass(frozen=True)
class Placing:
    """How a job's images and clips are placed on the timeline.

    Attributes:
        fill: Whether images and clips are made to fill whole latents. Then up to 7 frames are rendered before the first
            delivered frame, and an image that ends the video is repeated. Otherwise, every image after frame 0 is
            shown to the model as a single frame.
        beside: How many of the first latents of a clip that begins after frame 0 the model sees beside the video's own
            latents.
        rework_below: A clip that covers all frames at a strength below this number is reworked. At this strength or
            above, the clip is held.
    """

    fill: bool = True
    beside: int = 0
    rework_below: float = 1.0


@dataclass(frozen=True)
class ModelFacts:
    """The facts of a model that planning needs. FLOPs count a multiply-add as two.

    Attributes:
        name: The name by which jobs ask for the model.
        description: What the model is, for people.
        latent_channels: Channels of a latent.
        depth: Transformer blocks.
        width: Width of the transformer: the length of each token's vector.
        text_tokens: Text tokens that the cross-attention sees.
        transformer_parameters: Parameters of the transformer.
        vae_parameters: Parameters of the VAE.
        text_parameters: Parameters of the text encoder.
        decode_flops_per_pixel: FLOPs to decode one pixel. A pixel is one of width x height x frames.
        encode_flops_per_pixel: FLOPs to encode one pixel.
        decode_bytes_per_pixel: Peak memory of one decoding, in bytes per decoded pixel (halo included).
        encode_bytes_per_pixel: Peak memory of one encoding, in bytes per encoded pixel (see `encode_pixels`).
        precisions: The precisions in which the model can run ("fp32", "bf16", "fp8"). The first is the default.
        steps: The default number of denoising steps.
        guidance_scale: The default guidance scale. 1 switches guidance off.
        sigmas: `sigmas(steps)` returns the denoising schedule: steps+1 falling sigmas, the last of which is 0.
        decode_span: The number of latents to decode at a time.
        decode_halo: The number of extra latents to decode before and after each `decode_span` latents. The frames of
            these extra latents are thrown away.
        encode_pixels: The number of pixels of a clip to encode at a time.
        learnt: The sizes that the model draws well. None if they are unknown. Then the farm warns of no size.
        max_window: The longest window that the model draws well, in latents (33 latents are 257 frames).
        clock_seconds: The longest time that the model's position encoding covers, in seconds. Longer windows look
            worse.
        latent_space: A name for the model's latent space. Models that give the same name can read each other's latents.
            Empty: no other model can.
        storyboard_model: The name of a smaller model that can draw this model's storyboards. It has the same latent
            space. Empty: none is known.
        sink_frames: How many pixel frames before a window's start its sink seems to lie (see Sink). 0: no sinks.
        tail_strength: How firmly a window keeps to the end of the earlier window that it continues, from 0 to 1.
        colour_factor: How far a window's colours are moved towards the colours of the first window in its chain, from
            0 to 1. In a chain, each window continues the one before.
        refine_sigma: The sigma to which an enlarged storyboard is re-noised.
        grid: The only sigmas at which a distilled model can begin a step, from high to low. Empty: the model can begin
            a step at any sigma.
        options: The class of the model's options.
        schedule: `schedule(options, steps, tokens)` returns the schedule that a job's options choose; see `scheduled`.
            None: the options don't change the schedule, so `sigmas` gives it.
        sampler: The name of the sampler that jobs get if they name none.
        ignores: Names of the model's options that have no effect on this model.
        notes: `notes(options, given)` returns sentences for the user. Each option in `given` that has no effect beside
            the other options gets a sentence. The options' own remarks on the job follow. None: there are no sentences.
        placing: `placing(options)` returns how images and clips are placed. None: as `Placing()` says.
        negative_prompt: The negative prompt of jobs that give none, if their guidance uses a negative prompt.
    """

    name: str
    description: str
    latent_channels: int
    depth: int
    width: int
    text_tokens: int
    transformer_parameters: int
    vae_parameters: int
    text_parameters: int
    decode_flops_per_pixel: float
    encode_flops_per_pixel: float
    decode_bytes_per_pixel: float
    encode_bytes_per_pixel: float
    precisions: tuple[str, ...]
    steps: int
    guidance_scale: float
    sigmas: Callable[[int], tuple[float, ...]]
    decode_span: int
    decode_halo: int
    encode_pixels: int = 24_000_000
    learnt: LearntSizes | None = None
    max_window: int = 33
    clock_seconds: float = 20.0
    latent_space: str = ""
    storyboard_model: str = ""
    sink_frames: int = 0
    tail_strength: float = 0.5
    colour_factor: float = 0.25
    refine_sigma: float = 0.85
    grid: tuple[float, ...] = ()
    options: type[Options] = NoOptions
    schedule: Callable[[Options, int, int], tuple[float, ...]] | None = None
    sampler: str = "euler"
    negative_prompt: str = ""
    ignores: tuple[str, ...] = ()
    notes: Callable[[Options, frozenset[str]], list[str]] | None = None
    placing: Callable[[Options], Placing] | None = None

    def scheduled(self, options: Options, steps: int, tokens: int) -> tuple[float, ...]:
        """Return the denoising schedule of a job: falling sigmas that end with 0.

        Args:
            options: The job's options for the model.
            steps: Denoising steps of the whole schedule.
            tokens: Latent tokens of a window.

        Raises:
            farm.spec.InvalidSpec: The options don't fit each other or the steps.
        """
        return self.schedule(options, steps, tokens) if self.schedule else self.sigmas(steps)

    def placed(self, options: Options) -> Placing:
        """Return how the images and clips of a job with these options for the model are placed."""
        return self.placing(options) if self.placing else Placing()

    def forward_flops(self, tokens: int) -> float:
        """Return the FLOPs of one forward pass over `tokens` latent tokens (docs/ltx.md, Cost)."""
        n, d, text = tokens, self.width, self.text_tokens
        return self.depth * (28 * n * d**2 + 4 * n**2 * d + 4 * text * d**2 + 4 * text * n * d)

    def load_bytes(self, kind: TaskKind, precision: str) -> int:
        """Return the bytes that a task of `kind` must load into a device's memory if the model isn't loaded yet."""
        if kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            return self.transformer_parameters * weight_bytes(precision)
        in_use = kind in (TaskKind.ENCODE, TaskKind.DECODE)
        return self.vae_parameters * value_bytes(precision) if in_use else 0

    def resident_bytes(self, precision: str) -> int:
        """Return the device memory, in bytes, that the loaded transformer and VAE take."""
        return self.load_bytes(TaskKind.WINDOW, precision) + self.load_bytes(TaskKind.DECODE, precision)

    def denoise_bytes(self, tokens: int, precision: str, batch: int) -> int:
        """Return the peak device memory, in bytes, of denoising: transformer weights and activations.

        Activations are 28·D·N·batch values, with N = `tokens` and D = `width`.

        Args:
            tokens: The number of latent tokens in the window.
            precision: The precision in which the transformer runs, such as "bf16".
            batch: 2 if one pass takes the prompt and the negative prompt at once, else 1.
        """
        weights = self.transformer_parameters * weight_bytes(precision)
        return weights + 28 * value_bytes(precision) * self.width * tokens * batch

    def latent_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Return the size in bytes of stored or sent latents.

        Args:
            latents: The number of latents.
            width: Width in pixels.
            height: Height in pixels.
            precision: The precision of the values, such as "bf16".
        """
        return self.latent_channels * tokens_of(latents, width, height) * value_bytes(precision)

    def decode_flops(self, latents: int, width: int, height: int) -> float:
        """Return the FLOPs of decoding latents.

        Args:
            latents: The number of decoded latents, including those whose frames are thrown away.
            width: Width in pixels.
            height: Height in pixels.
        """
        return frames_of(latents) * width * height * self.decode_flops_per_pixel

    def decode_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Return the peak device memory, in bytes, of decoding: VAE weights and activations.

        Args:
            latents: The number of latents decoded at once, including those whose frames are thrown away.
            width: Width in pixels.
            height: Height in pixels.
            precision: The precision in which the VAE runs, such as "bf16".
        """
        pixels = frames_of(latents) * width * height
        return int(self.vae_parameters * value_bytes(precision) + pixels * self.decode_bytes_per_pixel)

    def held_bytes(self, tokens: int, batch: int) -> int:
        """Return the device memory, in bytes, that a window takes between two steps.

        The window keeps float32 copies of its latents, and the embeddings of its text.
        """
        return 6 * 4 * self.latent_channels * tokens + 4 * batch * self.text_tokens * self.width


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
        keys: The task keys of the storyboard windows that are enlarged to make these latents. Empty: the latents come
            from the video that the job restyles.
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
            `stop` can equal `start`, because a window's first latent stands for one frame, not for eight.
        first: The first latent of the encoded clip or image. This latent stands for a single frame.
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
        stop: Index after the last of these latents. If the task has no such range, `start` and `stop` are 0.
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
