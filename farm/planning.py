"""What planning plugins and the scheduler say to each other: models' facts, strategies' windows, planned tasks.

Plain values, no behaviour beyond arithmetic, no torch. A plan is stored as JSON with the job and fixes all that
shapes the result.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from farm.plan import ColourReference, JobJson, Payload, Tail, lockstep_group
from farm.policy.gist import gist
from farm.timeline import Cut, frames_of, tokens_of


class PlanFailed(Exception):
    """A job could not be planned, and not for its spec's sake: a strategy, or the planner, raised `cause`."""

    def __init__(self, strategy: str, cause: Exception):
        said = gist("".join(traceback.format_exception(cause)))
        super().__init__(
            f"strategy: {strategy!r} could not plan this job: {said}; nothing was stored. farmd's log has the whole error; "
            "another --strategy may do"
        )


class TaskKind(StrEnum):
    """What a task does; also the first part of its key."""

    ENCODE = "encode"  #: prompt and media to embeddings and latents, once a job
    STORYBOARD = "storyboard"  #: a low-resolution window of the whole timeline
    WINDOW = "window"  #: one window at the size asked for
    JOIN = "join"  #: the latents that two windows share
    DECODE = "decode"  #: a span of the timeline to frames and to a segment
    MUX = "mux"  #: segments to the file that is delivered


STAGES = tuple(TaskKind)
"""Kinds in the order in which a job goes through them."""


def weight_bytes(precision: str) -> int:
    """Return the bytes of a transformer's weight: fp8 is how weights are stored, not what is computed in."""
    return {"fp32": 4, "bf16": 2, "fp8": 1}[precision]


def value_bytes(precision: str) -> int:
    """Return the bytes of a value that a model computes in, as which its latents travel; with fp8 weights that is bf16."""
    return max(weight_bytes(precision), 2)


@dataclass(frozen=True)
class LearntSizes:
    """The sizes that a model draws well: those it was trained on, or those its authors advise.

    Attributes:
        least: the shortest side, in pixels; `SPATIAL` where no lower limit is known.
        largest: width and height, in pixels, of the size with the most pixels. Its longer side is the longest side.
        elsewhere: what to expect of other sizes, to be read after "its pictures".
    """

    least: int
    largest: tuple[int, int]
    elsewhere: str

    def hold(self, width: int, height: int) -> bool:
        """True if `width` x `height` pixels is such a size. Which of the two is the longer doesn't matter."""
        return (
            self.least <= min(width, height)
            and max(width, height) <= max(self.largest)
            and width * height <= self.largest[0] * self.largest[1]
        )


@dataclass(frozen=True)
class ModelFacts:
    """What planning must know of a model. FLOPs count a multiply-add as two; sizes in bytes and parameters."""

    name: str
    description: str
    latent_channels: int
    depth: int  #: transformer blocks
    width: int  #: transformer width D
    text_tokens: int  #: text tokens that the cross-attention sees
    transformer_parameters: int
    vae_parameters: int
    text_parameters: int
    decode_flops_per_pixel: float  #: a pixel is one of width x height x frames
    encode_flops_per_pixel: float
    decode_bytes_per_pixel: float  #: peak memory of decoding one span, halo included
    encode_bytes_per_pixel: float  #: peak memory of encoding, for each pixel encoded at a time
    precisions: tuple[str, ...]  #: of "fp32", "bf16", "fp8"; the default first
    steps: int  #: default denoising steps
    guidance_scale: float  #: default; 1 is off
    sigmas: Callable[[int], tuple[float, ...]]  #: steps to a falling schedule of steps+1 sigmas ending in 0
    decode_span: int  #: latents decoded at a time
    decode_halo: int  #: latents decoded on each side of a span and thrown away
    encode_pixels: int = 24_000_000  #: of a clip, encoded at a time
    learnt: LearntSizes | None = None  #: None: nothing is known, and nobody is told anything
    max_window: int = 33  #: latents that it draws well at a time (33 is 257 frames)
    clock_seconds: float = 20.0  #: range of the model's clock; longer windows degrade
    latent_space: str = ""  #: models that name the same one read each other's latents; empty: only their own
    storyboard_model: str = (
        ""  #: a smaller model of that latent space whose storyboards do; empty: none is known
    )
    sink_frames: int = (
        0  #: so long before its start a window is shown that of the clip (see Sink); 0: it isn't
    )
    tail_strength: float = (
        0.5  #: how firmly a window at full size keeps to the end of the one that it goes on from
    )
    colour_factor: float = (
        0.25  #: how far such a window is drawn to the colours of the one that it all began with
    )
    refine_sigma: float = 0.85  #: to which an enlarged storyboard is re-noised

    def forward_flops(self, tokens: int) -> float:
        """FLOPs of one forward pass over `tokens` latent tokens (docs/ltx.md, Cost)."""
        n, d, text = tokens, self.width, self.text_tokens
        return self.depth * (28 * n * d**2 + 4 * n**2 * d + 4 * text * d**2 + 4 * text * n * d)

    def load_bytes(self, kind: TaskKind, precision: str) -> int:
        """What a task of this kind reads into a device's memory where the model isn't warm."""
        if kind in (TaskKind.STORYBOARD, TaskKind.WINDOW):
            return self.transformer_parameters * weight_bytes(precision)
        in_use = kind in (TaskKind.ENCODE, TaskKind.DECODE)
        return self.vae_parameters * value_bytes(precision) if in_use else 0

    def resident_bytes(self, precision: str) -> int:
        """Device memory that the loaded transformer and VAE hold."""
        return self.load_bytes(TaskKind.WINDOW, precision) + self.load_bytes(TaskKind.DECODE, precision)

    def denoise_bytes(self, tokens: int, precision: str, batch: int) -> int:
        """Return the peak device memory of denoising: transformer weights and activations (28·D·N·batch values)."""
        weights = self.transformer_parameters * weight_bytes(precision)
        return weights + 28 * value_bytes(precision) * self.width * tokens * batch

    def latent_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Return the bytes of that many latents of `width` x `height` pixels, as they are stored and travel."""
        return self.latent_channels * tokens_of(latents, width, height) * value_bytes(precision)

    def decode_flops(self, latents: int, width: int, height: int) -> float:
        """FLOPs of decoding that many latents at once, halo included, to `width` x `height` pixels."""
        return frames_of(latents) * width * height * self.decode_flops_per_pixel

    def decode_bytes(self, latents: int, width: int, height: int, precision: str) -> int:
        """Peak device memory of the same: VAE weights and activations."""
        pixels = frames_of(latents) * width * height
        return int(self.vae_parameters * value_bytes(precision) + pixels * self.decode_bytes_per_pixel)

    def held_bytes(self, tokens: int, batch: int) -> int:
        """Device memory of a window that waits between two steps: a few float32 copies of it, and its text."""
        return 6 * 4 * self.latent_channels * tokens + 4 * batch * self.text_tokens * self.width


@dataclass(frozen=True)
class Head:
    """What a later window shares with this one, kept to at `strength` at its end: for going back in time."""

    key: str
    strength: float


@dataclass(frozen=True)
class Base:
    """Latents to refine instead of pure noise, re-noised to `sigmas[0]`.

    `keys` are storyboard windows, to be upsampled; none: the video that the job is made over.
    """

    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sink:
    """The clip's first latent, a single frame's, shown to a window as if `frames` before its start.

    What a window is to look like then doesn't hang on its neighbour alone, and can't drift from one to the next. It is
    global latent `latent` of the earlier window `key`, or, where that is None, of the job's condition `condition`.
    """

    key: str | None
    condition: int | None
    latent: int
    frames: int
    strength: float


@dataclass(frozen=True)
class Window:
    """One window to denoise: global latents [start, stop) at `width` x `height` pixels.

    `stage` separates the noise of different passes over the same latents. `sigmas` falls to 0; where there is
    a base it begins at the sigma to which the base is re-noised. `model` denoises it; empty: the job's.
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
    group: str = ""  #: windows of one group are denoised in lockstep; empty: by itself

    @property
    def tokens(self) -> int:
        """Latent tokens of its grid."""
        return tokens_of(self.stop - self.start, self.width, self.height)

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the windows that must be done first."""
        keys = list(self.base.keys) if self.base else []
        keys += [self.tail.key] if self.tail else []
        keys += [self.head.key] if self.head else []
        keys += [self.colour.key] if self.colour else []
        keys += [self.sink.key] if self.sink and self.sink.key else []
        return tuple(dict.fromkeys(keys))


@dataclass(frozen=True)
class Anchor:
    """Media given at strength 1: the job's condition `condition`.

    It lies in the global latents from `start` on, and `stop` is the first latent such that a window from there on holds
    nothing of it. Of a single frame that may be `start` itself: a window's first latent shows its last frame alone.
    `first` is the first of the latents that it is encoded to, which shows its first frame alone.
    """

    condition: int
    start: int
    stop: int
    first: int

    def lies_in(self, cut: Cut) -> bool:
        """Whether a window over `cut` holds any of it."""
        return cut.start < self.stop and self.start < cut.stop


@dataclass(frozen=True)
class Timeline:
    """What a strategy lays out: `latents` latents at `width` x `height` pixels (multiples of 32).

    `window` and `overlap` in latents, `cuts` the windows at full size, `fps` in frames a second, `sigmas` the whole schedule; `prompts` counts
    the different ones that follow each other on it. `source_sigma` is where denoising begins of a job that is made over a given
    video, which then takes the place of a storyboard. `storyboard` is the model that draws one, in the steps of
    `storyboard_sigmas`; None: the job's own, in its own. `given` is all that is given at strength 1, the longest first:
    from that a chain of windows should grow, and all should look like it.
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


def from_sigma(sigmas: Sequence[float], start: float) -> tuple[float, ...]:
    """The part of a falling schedule below `start`, beginning exactly there: what refining a base runs.

    Raises ValueError unless 0 < start ≤ sigmas[0].
    """
    if not 0 < start <= sigmas[0]:
        raise ValueError(f"start sigma must be above 0 and at most {sigmas[0]}, got {start}")
    # A step a hair below the start would be a wasted forward pass.
    return (start, *(sigma for sigma in sigmas if sigma < start - 1e-6))


class Strategy(Protocol):
    """A way to split a timeline into windows. A planning plugin."""

    name: str
    summary: str

    def lay_out(self, timeline: Timeline) -> tuple[Window, ...]:
        """Windows in an order in which each comes after those it needs.

        Those of kind WINDOW, put in the order of time, are the timeline's `cuts`.
        """
        ...


@dataclass(frozen=True)
class OutputFacts:
    """What planning must know of an output format."""

    name: str
    summary: str
    suffix: str  #: of the delivered file, such as ".mp4"
    bytes_per_pixel: float  #: of the file, as a guess for the estimate of disk


@dataclass(frozen=True)
class PlannedTask:
    """One task of a job's graph. `payload` is all that a renderer is told besides its inputs (farm.plan).

    `start`, `stop`: global latents it is about, both 0 where that says nothing. `model`, `weights`: what it renders
    with; empty: the plan's.
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

    @property
    def group(self) -> str:
        """The lockstep group of its job that it belongs to; empty: it is done by itself."""
        return lockstep_group(self.payload)


@dataclass(frozen=True)
class Plan:
    """All that shapes a job's result. `shared` is what every task of the job is told (farm.plan.JobPart)."""

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
