"""The task contract: the parts of a plan that the tasks of a job get, as values with types.

A plan is stored as JSON and may be older than the code that reads it. Only this module reads that JSON. All other code
passes it on unread (as `Payload` or `JobJson`), so that a type checker finds every reader of a field. The names of
artifacts that one part of the farm writes and another reads are constants here. farm.handed has the message that a
renderer gets. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated, Any, NewType, Self, cast

from pydantic import Field

from farm.json_values import OLD, Unreadable, as_json, read_value

VERSION = 1
"""Of the plans that this code writes. It reads older ones; plans from before there were versions count as 0."""

Payload = NewType("Payload", object)
"""What one task is told, as the JSON that is stored with it. `WindowTask.of` and its like read it."""

JobJson = NewType("JobJson", object)
"""What all tasks of a job are told, as the JSON that is stored with the job. `JobPart.of` reads it."""

EMBEDDINGS = "embeddings"
"""Artifact of an encode task: the embeddings of all prompts."""

LATENTS = "latents"
"""Artifact of windows and joins: their latents; of an encode task, those of the video that the job reworks."""

EXCHANGE = "exchange"
"""Artifact of a window in lockstep: all that it gave its neighbours, "{neighbour}/{round}", float16 [C, k, h, w]."""

SEGMENT = "segment"
"""Artifact of a decode task: the frames of its span, encoded."""

VIDEO, SIDECAR = "video", "sidecar"
"""Artifacts of the mux task: the delivered file, and the JSON that says how it was made."""

Shown = tuple[tuple[int, float], ...]
"""What is shown of a job's prompts: pairs of a prompt's index and its share. Shares sum to 1."""

Run = tuple[int, int, Shown]
"""What the global latents [start, stop) show: start, stop and shares."""


def media_name(index: int) -> str:
    """Return the name of the artifact that holds the image or clip of the job's condition `index`."""
    return f"condition/{index}"


def condition_name(index: int, width: int, height: int, point: int | None = None) -> str:
    """Return the name of the artifact with a condition's latents at a size, or those of its frame `point` alone."""
    return f"{media_name(index)}/{'' if point is None else f'{point}/'}{width}x{height}"


class _Told:
    """A value that is stored as the JSON of its fields."""

    @classmethod
    def of(cls, payload: Payload) -> Self:
        """Return the value that was stored as `payload`. Raises Unreadable."""
        return read_value(cls, payload)

    def payload(self) -> Payload:
        """Return the value as it is stored: JSON of its fields."""
        return Payload(as_json(self))


@dataclass(frozen=True)
class Piece:
    """Global latents [start, stop) taken from `left`, or cross-faded from `left` to `right` if `right` isn't None.

    `left` and `right` are keys of tasks whose latents cover the piece.
    """

    start: int
    stop: int
    left: str
    right: str | None = None


@dataclass(frozen=True)
class KeptLatents:
    """Latents of the job's media that a window keeps at `strength`, at its global latents [start, stop).

    They are in the artifact `name` of the encode task.
    """

    name: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class Point:
    """A single frame of the job's media, which a window sees.

    `frame` is its place, counted from the window's first frame. `latent` is the global latent whose noise is mixed into
    it. `shows` is None in older plans, which don't give each latent its prompts.
    """

    name: str
    frame: int
    latent: int
    strength: float
    shows: Shown | None = None


@dataclass(frozen=True)
class Base:
    """The latents that a window refines: those of storyboard windows, or of the video that the job reworks."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Tail:
    """The last `latents` latents of the earlier window `key`, which a later window sees at its own beginning."""

    key: str
    latents: int
    strength: float


@dataclass(frozen=True)
class KeptHead:
    """Global latents [start, stop) of the later window `key`, which this window keeps at `strength` at its own end."""

    key: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class ColourReference:
    """The earlier window `key`, whose colours a later window approaches.

    The later window's channel means and deviations are moved by `factor` towards those of `key` (AdaIN).
    """

    key: str
    factor: float


@dataclass(frozen=True)
class ShownSink:
    """A sink: one latent that a window sees before its own start, so that the video's look doesn't drift.

    It is the global latent `latent` in the artifact `name` of the task `key`. The window sees it `-frame` frames before
    its own start, so `frame` is below 0. `shows` is as in Point.
    """

    key: str
    name: str
    latent: int
    frame: int
    strength: float
    shows: Shown | None = None


@dataclass(frozen=True)
class SharedLatents:
    """Global latents [start, stop) that a window in lockstep shares with its neighbour `key`.

    `left`: whether the neighbour is the left window of the two. `weights` are the left window's weights in the average
    of both, one for each latent. `bytes` is the size of the array that the neighbour sends to the window in each round.
    """

    key: str
    left: bool
    start: int
    stop: int
    weights: tuple[float, ...]
    bytes: int = 0


@dataclass(frozen=True)
class Lockstep:
    """A window's part in its lockstep group. `held_bytes`: device memory that it takes while others make their step."""

    group: str
    held_bytes: int
    shared: tuple[SharedLatents, ...]


@dataclass(frozen=True)
class EncodeTask(_Told):
    """The payload of an encode task: the sizes (width, height) in pixels at which media is encoded.

    At most `pixels` pixels of a clip are encoded at a time. `negative`: whether the negative prompt is encoded too,
    because some window is guided away from it.
    """

    sizes: tuple[tuple[int, int], ...]
    pixels: int
    negative: bool


@dataclass(frozen=True)
class WindowTask(_Told):
    """The payload of a storyboard task or a window task; also the part of a join task's payload that heals its seam.

    The task denoises the global latents [start, stop) at `width` x `height` pixels with the schedule `sigmas`. It
    begins with noise of `stage`, or with `base` re-noised to `sigmas[0]`. `shows` names the prompts of all its latents,
    in order. In older plans `shows` is None, and `prompts` is one mixture of prompts for the whole window.
    """

    stage: int
    start: int
    stop: int
    width: int
    height: int
    sigmas: tuple[float, ...]
    conditions: tuple[KeptLatents, ...]
    points: tuple[Point, ...]
    base: Base | None
    tail: Tail | None
    head: KeptHead | None
    colour: ColourReference | None
    sink: ShownSink | None
    guidance_scale: float
    shows: tuple[Run, ...] | None = None
    lockstep: Lockstep | None = None
    prompts: Shown | None = field(default=None, metadata=OLD)

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class JoinTask(_Told):
    """The payload of a join task: the global latents [start, stop) that the windows `left` and `right` share.

    If these latents can't be joined, the window `heal` renders them and the latents around them again. The first latent
    of `heal` only precedes the others, and is dropped. `heal` is None if there are too few latents for it.
    """

    start: int
    stop: int
    left: str
    right: str
    heal: WindowTask | None


@dataclass(frozen=True)
class GivenSpan:
    """Given frames with which a decode task replaces the rendered frames [first, last).

    They are decoded from the latents [start, stop) of the artifact `name`; `origin` is the rendered frame that the
    first of these latents shows by itself. The change that they make fades out over the `fade[0]` frames before them
    and the `fade[1]` frames after them. `condition` is the job's condition that gives the frames; None in older plans,
    which don't name it.
    """

    name: str
    start: int
    stop: int
    origin: int
    first: int
    last: int
    fade: tuple[int, int]
    condition: int | None = None


@dataclass(frozen=True)
class DecodeTask(_Told):
    """The payload of a decode task: global latents [start, stop), halo included, and rendered frames [first, last).

    `patches` are keys of join tasks. The latents that a join has stored, if any, replace those of the `pieces`.
    """

    start: int
    stop: int
    pieces: tuple[Piece, ...]
    patches: tuple[str, ...]
    first: Annotated[int, Field(alias="from")]
    last: Annotated[int, Field(alias="to")]
    given: tuple[GivenSpan, ...] = ()


@dataclass(frozen=True)
class MuxTask(_Told):
    """The payload of the mux task: the keys of the decode tasks whose segments it joins, in the order of time."""

    segments: tuple[str, ...]


@dataclass(frozen=True)
class Media:
    """One of the job's conditions as it was planned.

    Its `frames` frames at the job's rate begin at the delivered frame `frame` and are kept at `strength`. Before it
    is encoded, its first frame is repeated `before` times and its last `after` times; the resulting latents begin at
    the global latent `start`. Its frames at the rendered frames `points` are also encoded, each alone. `listed` is its
    place in the list that the person gave; None in plans whose conditions are in the order of that list.
    """

    artifact_id: str
    frame: int
    frames: int
    strength: float
    before: int
    after: int
    start: int
    points: tuple[int, ...] = ()
    listed: int | None = None


@dataclass(frozen=True)
class Crop:
    """The place of the delivered picture in the rendered one: columns to its left, and lines above it."""

    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class ShownFrames:
    """Delivered frames `first` to `last`, both included, show `prompts`: one, or a fade from the first to the last."""

    first: int
    last: int
    prompts: tuple[int, ...]


@dataclass(frozen=True)
class JobPart:
    """The part of a plan that all tasks of a job get.

    The video has `frames` frames of `width` x `height` pixels at `fps` ("30000/1001"). `latents` latents are rendered at
    `render_width` x `render_height` pixels; `lead` rendered frames come before the first delivered one. `prompts` has
    each different prompt once, in the order in which they first show. `windows` are spans [start, stop) of global
    latents. `source` is the condition whose video the job reworks. `model`, `weights`, `precision`, `strategy`,
    `output`, `storyboard_model` and `layout` are names. `output_suffix` is the ending of the delivered file, such as
    ".mp4". Plans that are older than `version` lack the fields that have a default here.
    """

    model: str
    weights: str
    precision: str
    strategy: str
    seed: int
    fps: str
    frames: int
    lead: int
    width: int
    height: int
    render_width: int
    render_height: int
    latents: int
    prompts: tuple[str, ...]
    negative_prompt: str
    guidance_scale: float
    output: str
    source: int | None
    conditions: tuple[Media, ...]
    crop: Crop = Crop()
    prompt_always: str = ""
    prompt_frames: tuple[ShownFrames, ...] = ()
    output_suffix: str = ""
    storyboard_model: str = ""
    layout: str = "fixed"
    windows: tuple[tuple[int, int], ...] = ()
    version: int = 0

    @classmethod
    def of(cls, stored: JobJson) -> Self:
        """Return the JobPart that the JSON `stored` holds. Raises Unreadable, also if a later version wrote the plan."""
        version = _fields(stored).get("version", 0)
        if isinstance(version, int) and version > VERSION:
            raise Unreadable(
                f"the plan has version {version}, but this software reads only up to version {VERSION}; upgrade it"
            )
        return read_value(cls, stored)

    def json(self) -> JobJson:
        """Return the value as it is stored: JSON of its fields."""
        return JobJson(as_json(self))

    @property
    def frame_rate(self) -> Fraction:
        """The frame rate, in frames a second."""
        return Fraction(self.fps)


def lockstep_group(payload: Payload) -> str:
    """Return the name of a task's lockstep group within its job; "" if it has none. Tasks of any kind are accepted."""
    lockstep = _fields(payload).get("lockstep")
    return lockstep["group"] if lockstep else ""


def held_bytes(payload: Payload) -> int:
    """Return the device memory, in bytes, that a task takes while others of its lockstep group step; 0 without one."""
    lockstep = _fields(payload).get("lockstep")
    return lockstep["held_bytes"] if lockstep else 0


def precision_of(shared: JobJson) -> str:
    """Return the precision in which a job is rendered, without reading the other fields."""
    return _fields(shared)["precision"]


def delivered_frames(shared: JobJson, payload: Payload) -> tuple[int, int]:
    """Return the delivered frames [first, last) that a decode task makes."""
    told, lead = _fields(payload), _fields(shared)["lead"]
    return told["from"] - lead, told["to"] - lead


def output_suffix_of(shared: JobJson) -> str:
    """Return the ending of the delivered file's name; "" if the plan doesn't have it."""
    return _fields(shared).get("output_suffix", "")


def prompts_of(shared: JobJson) -> list[tuple[int, int, list[str]]]:
    """Return (first, last, prompts) for each span of delivered frames, both ends included; [] if the plan has none."""
    told = _fields(shared)
    return [
        (span["first"], span["last"], [told["prompts"][index] for index in span["prompts"]])
        for span in told.get("prompt_frames", ())
    ]


def size_of(payload: Payload) -> tuple[int, int] | None:
    """Return the width and height in pixels at which a task denoises; None for a task that doesn't denoise."""
    told = _fields(payload)
    return (told["width"], told["height"]) if "width" in told else None


def sidecar(shared: JobJson, notes: Sequence[str]) -> dict[str, Any]:
    """Return a video's sidecar: everything that shaped the result, and the notes for people."""
    return {**_fields(shared), "notes": list(notes)}


def _fields(stored: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], stored)
