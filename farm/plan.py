"""The task contract: what the tasks of a job are told, as values with types. What a renderer is handed: farm.handed.

A plan is stored as JSON and may be older than the code that reads it. Only this room reads that JSON: everywhere else it
is opaque (`Payload`, `JobJson`), so that a type checker finds every reader of a field. Names of artifacts that one part
writes and another reads are constants here. Pure.
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
"""Artifact of windows and joins: their latents; of an encode task, those of the video that the job is made over."""

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
    """Return the name of the artifact with the media of the job's condition `index`."""
    return f"condition/{index}"


def condition_name(index: int, width: int, height: int, point: int | None = None) -> str:
    """Return the name of the artifact with a condition's latents at a size, or those of its single frame `point`."""
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
    """Global latents [start, stop) taken from `left`, or cross-faded from `left` to `right` where there is one.

    `left` and `right` are keys of tasks whose latents cover the piece.
    """

    start: int
    stop: int
    left: str
    right: str | None = None


@dataclass(frozen=True)
class KeptLatents:
    """Latents of the job's media in the artifact `name` of the encode task, kept at `strength` at the global latents
    [start, stop).
    """

    name: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class Point:
    """A single frame of the job's media, which a window sees.

    `frame` is counted from the window's first, `latent` is the global latent whose noise it is mixed with. `shows` is
    None in plans from before prompts were shown by latent.
    """

    name: str
    frame: int
    latent: int
    strength: float
    shows: Shown | None = None


@dataclass(frozen=True)
class Base:
    """What a window is refined from: latents of storyboard windows, or of the video that the job is made over."""

    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Tail:
    """The last `latents` latents of an earlier window, shown to a later one at its head."""

    key: str
    latents: int
    strength: float


@dataclass(frozen=True)
class KeptHead:
    """Global latents [start, stop) of the later window `key`, kept at `strength` at the end of this one."""

    key: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class ColourReference:
    """The earlier window `key`, towards whose channel means and deviations this window is moved by `factor` (AdaIN)."""

    key: str
    factor: float


@dataclass(frozen=True)
class ShownSink:
    """A sink: one latent of the given start, which a window sees so that the look holds.

    It is the global latent `latent` in the artifact `name` of task `key`. The window sees it `-frame` frames before its own
    start, so `frame` is below 0. `shows` is as in Point.
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

    `left`: the neighbour is the left window of the two. `weights` are those of the left window, one for each latent.
    `bytes` is the size of the array that the neighbour gives the window each round.
    """

    key: str
    left: bool
    start: int
    stop: int
    weights: tuple[float, ...]
    bytes: int = 0


@dataclass(frozen=True)
class Lockstep:
    """A window's part in its lockstep group. `held_bytes`: device memory in use while others make their step."""

    group: str
    held_bytes: int
    shared: tuple[SharedLatents, ...]


@dataclass(frozen=True)
class EncodeTask(_Told):
    """The payload of an encode task: the sizes (width, height) in pixels at which media is encoded.

    At most `pixels` pixels of a clip are encoded at a time. `negative`: some window is guided away from the negative
    prompt, so it must be encoded too.
    """

    sizes: tuple[tuple[int, int], ...]
    pixels: int
    negative: bool


@dataclass(frozen=True)
class WindowTask(_Told):
    """The payload of a storyboard or window task, and the part of a join's that heals its seam.

    It denoises the global latents [start, stop) at `width` x `height` pixels with `sigmas`, from noise of `stage`, or
    from `base` re-noised to `sigmas[0]`. `shows` covers its latents in their order. In plans from before prompts were
    shown by latent it is None, and `prompts` is one mixture for the whole window.
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

    If they can't be joined, the window `heal` renders them and the latents around them again; None if they are too few
    for that. Its first latent is run-up, which is dropped.
    """

    start: int
    stop: int
    left: str
    right: str
    heal: WindowTask | None


@dataclass(frozen=True)
class GivenSpan:
    """Given frames that a decode puts in: rendered frames [first, last), from latents [start, stop) of artifact `name`.

    `origin` is the rendered frame that the first of these latents shows by itself. Their change fades out over `fade[0]`
    frames before them and `fade[1]` frames behind. `condition` is the job's condition that gives the frames; None in
    older plans, which don't name it.
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

    `patches` are keys of joins. The latents that a join has stored, if any, replace those of the `pieces`.
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
    """The payload of the mux task: the keys of the decodes whose segments it joins, in the order of time."""

    segments: tuple[str, ...]


@dataclass(frozen=True)
class Media:
    """One of the job's conditions as it was planned.

    Its `frames` frames at the job's rate begin at the delivered frame `frame` and are kept at `strength`. It is encoded
    with its first frame repeated `before` times and its last `after` times, to latents from the global latent `start`
    on; the rendered frames `points` are encoded alone, too. `listed` is its place in the person's list, None in plans
    that number conditions as they were listed.
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
    """Columns left of and lines above the delivered picture in the rendered one."""

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
    """The part of a plan that all tasks of a job are told.

    The video has `frames` frames of `width` x `height` pixels at `fps` ("30000/1001"). `latents` latents are rendered at
    `render_width` x `render_height` pixels; `lead` rendered frames come before the first delivered one. `prompts` are the
    different ones in the order in which they first show. `windows` are global latents [start, stop). `source` is the
    condition that the job is made over. `model`, `weights`, `precision`, `strategy`, `output`, `storyboard_model` and
    `layout` are names, `output_suffix` is the ending of the delivered file, such as ".mp4". Plans from before there were
    versions lack what has a default here.
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
        """Return the value that was stored. Raises Unreadable, also for a plan of a later version."""
        version = _fields(stored).get("version", 0)
        if isinstance(version, int) and version > VERSION:
            raise Unreadable(
                f"the plan is of version {version}, and this software reads up to version {VERSION}; upgrade it"
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
    """Return the lockstep group of a task of any kind, within its job; "" if the task has none."""
    lockstep = _fields(payload).get("lockstep")
    return lockstep["group"] if lockstep else ""


def held_bytes(payload: Payload) -> int:
    """Return the bytes of device memory that a task keeps while others of its lockstep group step; 0 without a group."""
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
    """Return the file name's ending of the delivered file; "" if the plan doesn't say."""
    return _fields(shared).get("output_suffix", "")


def prompts_of(shared: JobJson) -> list[tuple[int, int, list[str]]]:
    """Return (first, last, prompts) for each span of delivered frames, both ends included; [] if the plan doesn't say."""
    told = _fields(shared)
    return [
        (span["first"], span["last"], [told["prompts"][index] for index in span["prompts"]])
        for span in told.get("prompt_frames", ())
    ]


def size_of(payload: Payload) -> tuple[int, int] | None:
    """Return width and height in pixels at which a task denoises; None for a kind that doesn't denoise."""
    told = _fields(payload)
    return (told["width"], told["height"]) if "width" in told else None


def sidecar(shared: JobJson, notes: Sequence[str]) -> dict[str, Any]:
    """Return a video's sidecar: everything that shaped the result, and the notes that people got."""
    return {**_fields(shared), "notes": list(notes)}


def _fields(stored: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], stored)
