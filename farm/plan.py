"""The task contract: typed classes for the parts of a plan that a job's tasks receive. Pure.

A plan is stored as JSON and may be older than the code that reads it. Only this module reads that JSON, and turns it
into typed classes. All other code passes the JSON on unread, as `Payload` or `JobJson`. So a type checker can find
every use of a field.

This module also defines the names of artifacts (stored files) that one part of the farm writes and another part reads.
farm.handed defines the message that a renderer receives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, NewType, Self, cast

from pydantic import Field

from farm.json_values import OLD, SPARSE, Unreadable, as_json, read_lazily, read_value

VERSION = 3
"""The newest version of plans that this code reads and writes. Plans from before there were versions count as 0.

A plan gets the lowest version that says all of it, so that an older renderer refuses only what it can't do. Version 3 has
clips that are placed as in Lightricks' pipeline.
"""

OPTIONS_VERSION = 2
"""The version of a plan with a sampler, a guidance or options."""

FIRST_VERSION = 1
"""The version of a plan with the default sampler and guidance, and without options."""

Payload = NewType("Payload", object)
"""What one task is told, as the JSON that is stored with it. `WindowTask.of` and its like read it."""

JobJson = NewType("JobJson", object)
"""What all tasks of a job are told, as the JSON that is stored with the job. `JobPart.of` reads it."""


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
    """Return the name of the artifact that holds the latents of a condition (an image or clip given with the job).

    Args:
        index: The condition's index in the job.
        width: The width in pixels at which the condition is encoded.
        height: The height in pixels at which the condition is encoded.
        point: The number of a rendered frame, if the artifact holds the latent of only that frame. None if the
            artifact holds the latents of the whole condition.
    """
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
    """A range of the video's latents, and the one or two tasks from which these latents come.

    Attributes:
        start: Index of the first latent, counted from the start of the rendered video.
        stop: Index after the last latent.
        left: The key of the task whose latents are used.
        right: The key of a second task: the latents cross-fade from those of `left` to those of this task. None: only
            `left` is used.
    """

    start: int
    stop: int
    left: str
    right: str | None = None


@dataclass(frozen=True)
class KeptLatents:
    """Latents of an image or clip given with the job. A window keeps them instead of making its own.

    Attributes:
        name: The name of the encode task's artifact that holds these latents.
        start: Index of the first latent that is kept, counted from the start of the rendered video.
        stop: Index after the last latent that is kept.
        strength: How firmly the window keeps these latents, from 0 to 1.
    """

    name: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class Point:
    """A part of an image or clip given with the job. A window sees this part beside its own latents during denoising.

    The part is a single frame, or the first latents of a clip.

    Attributes:
        name: The name of the encode task's artifact that holds the latents.
        frame: The position of the first frame, counted in frames from the window's first frame.
        latent: Index of the first latent, counted from the start of the rendered video. The noise that is mixed into
            the latents depends on this index.
        strength: How firmly the window keeps to these latents, from 0 to 1.
        shows: The prompts at a single frame: pairs of a prompt's index and the prompt's weight. None for latents of a
            clip, which show the prompts of the window's own latents at the same time. Also None in older plans.
        latents: The number of the clip's latents in the part. None: the part is a single frame.
    """

    name: str
    frame: int
    latent: int
    strength: float
    shows: Shown | None = None
    latents: int | None = field(default=None, metadata=SPARSE)


@dataclass(frozen=True)
class BaseLatents:
    """The latents that a window begins with and refines.

    These latents come from the storyboard (a small draft of the whole video), or from a given video that the job
    reworks.
    """

    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Tail:
    """The last latents of an earlier window. A later window sees these latents at its own beginning.

    Attributes:
        key: The earlier window's task.
        latents: The number of latents.
        strength: How firmly the later window keeps these latents, from 0 to 1.
    """

    key: str
    latents: int
    strength: float


@dataclass(frozen=True)
class KeptHead:
    """The first latents of a later window. An earlier window keeps these latents at its own end.

    Attributes:
        key: The later window's task.
        start: Index of the first latent that is kept, counted from the start of the rendered video.
        stop: Index after the last latent that is kept.
        strength: How firmly the earlier window keeps these latents, from 0 to 1.
    """

    key: str
    start: int
    stop: int
    strength: float


@dataclass(frozen=True)
class ColourReference:
    """The window whose colours a later window takes on, fully or in part.

    AdaIN moves the mean and the standard deviation of each latent channel towards those of the earlier window.

    Attributes:
        key: The earlier window's task.
        factor: How far the means and deviations move, from 0 (not at all) to 1 (fully).
    """

    key: str
    factor: float


@dataclass(frozen=True)
class ShownSink:
    """An attention sink: one latent that a window sees before its own start, so that the video's look doesn't drift.

    Attributes:
        key: The task that made the latent.
        name: The artifact of that task that holds the latent.
        latent: The latent's index in the artifact.
        frame: The sink's position in frames, counted from the window's first frame. It is below 0.
        strength: How firmly the window keeps to the sink, from 0 to 1.
        shows: The prompts at the sink: pairs of a prompt's index and the prompt's weight. None in older plans.
    """

    key: str
    name: str
    latent: int
    frame: int
    strength: float
    shows: Shown | None = None


@dataclass(frozen=True)
class SharedLatents:
    """The latents that a window in lockstep has in common with one neighbour. The two windows average them.

    Attributes:
        key: The neighbour's task.
        left: Whether the neighbour is the left window of the two.
        start: Index of the first latent that both windows have, counted from the start of the rendered video.
        stop: Index after the last latent that both windows have.
        weights: The left window's weight in the average, one number for each of these latents.
        bytes: The size of the array that the neighbour sends to the window in each round.
    """

    key: str
    left: bool
    start: int
    stop: int
    weights: tuple[float, ...]
    bytes: int = 0


@dataclass(frozen=True)
class Lockstep:
    """What a window needs to denoise in lockstep: together with the other windows of its group, step by step.

    Attributes:
        held_bytes: The device memory that the window still takes while another window on the device makes a step.
        shared: The latents that the window has in common with each neighbour.
        evaluations: How many times the window's sampler asks for a velocity, in all steps together. Each time, the
            window exchanges latents with its neighbours. None: once in each step.
    """

    group: str
    held_bytes: int
    shared: tuple[SharedLatents, ...]
    evaluations: int | None = field(default=None, metadata=SPARSE)


@dataclass(frozen=True)
class Chosen:
    """A plugin that a job chose, and its options.

    Attributes:
        options: The options that differ from their defaults: each option's name with its value as JSON.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EncodeTask(_Told):
    """The payload of an encode task, which encodes the prompts, and the images and clips given with the job.

    Attributes:
        sizes: The sizes at which images and clips are encoded, as width and height in pixels.
        pixels: The most pixels of a clip that are encoded at a time.
        negative: Whether to encode the negative prompt too, because the guidance of a window needs it.
    """

    sizes: tuple[tuple[int, int], ...]
    pixels: int
    negative: bool


@dataclass(frozen=True)
class WindowTask(_Told):
    """The payload of a task that denoises a window of the video, or of the storyboard (a small draft of the video).

    A join task's payload also contains a WindowTask, which says how to render the latents around a visible seam again.

    Attributes:
        stage: A number that differs between passes over the same latents, so that each pass gets different noise.
        start: Index of the window's first latent, counted from the start of the rendered video.
        stop: Index after the window's last latent.
        width: The width in pixels of the window's frames.
        height: The height in pixels of the window's frames.
        sigmas: The noise levels: each denoising step goes from one level to the next.
        conditions: Latents of images and clips given with the job, which the window keeps.
        points: Parts of given images and clips, which the window sees in addition to its own latents. Each part is a
            single frame, or the first latents of a clip.
        base: The latents that are noised to `sigmas[0]` and refined; None: the window begins with pure noise.
        tail: The end of an earlier window, which this window sees at its own beginning; may be None.
        head: The beginning of a later window, which this window keeps at its own end; may be None.
        colour: The earlier window whose colours this window takes on, fully or in part; may be None.
        sink: A latent that the window sees before its own start; may be None.
        guidance_scale: The scale of classifier-free guidance; 1 turns it off.
        shows: The prompts of the window's latents, in order: for each range of latents, its start, its stop, and
            pairs of a prompt's index and the prompt's weight. None in older plans, which have `prompts` instead.
        lockstep: The window's part in a lockstep group; None if the window is in no group.
        prompts: Only in older plans: one mixture of prompts for the whole window.
        sampler: The sampler and its options; None: Euler.
        guidance: The guidance and its options; None: only classifier-free guidance.
    """

    stage: int
    start: int
    stop: int
    width: int
    height: int
    sigmas: tuple[float, ...]
    conditions: tuple[KeptLatents, ...]
    points: tuple[Point, ...]
    base: BaseLatents | None
    tail: Tail | None
    head: KeptHead | None
    colour: ColourReference | None
    sink: ShownSink | None
    guidance_scale: float
    shows: tuple[Run, ...] | None = None
    lockstep: Lockstep | None = None
    prompts: Shown | None = field(default=None, metadata=OLD)
    sampler: Chosen | None = field(default=None, metadata=SPARSE)
    guidance: Chosen | None = field(default=None, metadata=SPARSE)

    @property
    def steps(self) -> int:
        """The number of denoising steps."""
        return len(self.sigmas) - 1


@dataclass(frozen=True)
class JoinTask(_Told):
    """The payload of a join task, which joins two neighbouring windows at the latents that both have.

    Attributes:
        start: Index of the first latent that both windows have, counted from the start of the rendered video.
        stop: Index after the last latent that both windows have.
        left: The left window's task.
        right: The right window's task.
        heal: How to render the latents around the seam again, if the seam would be visible. The join task drops the
            first of the latents that it renders. None: there are too few latents around the seam.
    """

    start: int
    stop: int
    left: str
    right: str
    heal: WindowTask | None


@dataclass(frozen=True)
class GivenSpan:
    """Frames of a condition (an image or clip given with the job), which replace rendered frames in a decode task.

    Attributes:
        name: The name of the encode task's artifact that holds the latents of these frames.
        start: Index of the first latent that is decoded, counted from the start of the rendered video.
        stop: Index after the last latent that is decoded.
        origin: The rendered frame to which latent `start` decodes. That latent gives only one frame, because it is
            decoded first.
        first: The first rendered frame that is replaced.
        last: The rendered frame after the last that is replaced.
        fade: How many rendered frames are adapted to the given frames, so that the picture doesn't jump: a pair of the
            number of frames before `first`, and the number of frames from `last` on.
        condition: The index of the condition in the job; None in older plans.
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
    """The payload of a decode task, which decodes a range of the video's latents to frames.

    The range includes the halo: extra latents on each side, whose frames are thrown away.

    Attributes:
        start: Index of the first latent to decode, counted from the start of the rendered video.
        stop: Index after the last latent to decode.
        pieces: The tasks from which these latents come.
        patches: Keys of join tasks. A join task's latents replace the latents of `pieces` at the same indices.
        first: The first rendered frame to return.
        last: The rendered frame after the last to return.
        given: Frames of images and clips given with the job, which replace rendered frames.
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
    """The payload of the mux task, which joins the segments (the encoded parts of the video) to one video.

    Attributes:
        segments: The keys of the decode tasks that made the segments, in the order in which the video shows them.
    """

    segments: tuple[str, ...]


@dataclass(frozen=True)
class PlacedMedia:
    """A condition (an image or clip given with the job) and its place in the plan.

    Attributes:
        artifact_id: The artifact that holds the image or clip.
        frame: The delivered frame at which the condition begins.
        frames: The condition's length in frames, at the job's frame rate.
        strength: How firmly the video keeps to the condition, from 0 to 1.
        before: How many copies of the condition's first frame are encoded before the condition.
        after: How many copies of the condition's last frame are encoded after the condition.
        start: Index of the latent at which the encoded condition begins, counted from the start of the rendered video.
        points: Those frames of the condition that are also encoded by themselves, as indices in the rendered video.
        listed: The condition's index in the user's list of conditions. None: the plan keeps the order of that list.
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
    """The place of the delivered picture in the rendered picture, which may be larger.

    Attributes:
        left: The rendered columns to the left of the delivered picture.
        top: The rendered lines above the delivered picture.
    """

    left: int = 0
    top: int = 0


@dataclass(frozen=True)
class ShownFrames:
    """Consecutive delivered frames, and the prompts that these frames show.

    Attributes:
        first: Number of the first frame.
        last: Number of the last frame (not of the frame after it).
        prompts: Indices of the prompts in the job. If there are several, the frames fade from the first prompt to the
            last prompt.
    """

    first: int
    last: int
    prompts: tuple[int, ...]


@dataclass(frozen=True)
class JobPart:
    """The part of a plan that all tasks of a job get. Older plans lack the fields that have a default here.

    Attributes:
        weights: The hash of the model's weights.
        precision: The precision of the model's computations, such as "bf16".
        fps: The frame rate, as a text such as "30000/1001".
        frames: The number of delivered frames.
        lead: The number of frames that are rendered before the first delivered frame.
        width: The width of the delivered video in pixels.
        height: The height of the delivered video in pixels.
        render_width: The width in pixels at which the video is rendered.
        render_height: The height in pixels at which the video is rendered.
        latents: The number of latents that are rendered.
        prompts: Each different prompt once, in the order in which the video first shows them.
        guidance_scale: The scale of classifier-free guidance; 1 turns it off.
        output: The name of the output format.
        source: The index, among the conditions, of the clip that the job reworks (re-noises and renders again). None:
            the job makes a new video.
        conditions: The images and clips given with the job.
        crop: The place of the delivered picture in the rendered picture.
        prompt_always: A text that was put before each prompt; `prompts` contain it already.
        prompt_frames: The prompts that the delivered frames show.
        output_suffix: The ending of the delivered file's name, such as ".mp4".
        storyboard_model: The name of the model that draws the storyboard (a small draft of the whole video).
        layout: How the lengths of windows were chosen: "fixed" (only by the spec) or "farm" (for the farm's devices).
        windows: The windows of the video. Each is a pair: the index of its first latent, and the index after its last
            latent.
        version: The version of the plan's format; 0 for plans that are older than version 1.
        options: The options of the job's plugins. `options[kind]`, for a kind of plugin such as "model", has each
            option's name with its value as JSON. Options that have their default value are left out.
        preset: The name of the preset that filled in the job; empty if there was none.
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
    conditions: tuple[PlacedMedia, ...]
    crop: Crop = Crop()
    prompt_always: str = ""
    prompt_frames: tuple[ShownFrames, ...] = ()
    output_suffix: str = ""
    storyboard_model: str = ""
    layout: str = "fixed"
    windows: tuple[tuple[int, int], ...] = ()
    version: int = 0
    sampler: str = "euler"
    guidance: str = "lightricks"
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    preset: str = ""

    @classmethod
    def of(cls, stored: JobJson) -> Self:
        """Return the JobPart that was stored as JSON.

        Args:
            stored: The JSON.

        Raises:
            Unreadable: The JSON can't be read, or it was written by a later version of the software.
        """
        version = read_lazily(cls, stored).version
        if version > VERSION:
            raise Unreadable(
                f"the plan has version {version}, but this software can read plans only up to version {VERSION}; "
                "upgrade the software"
            )
        return read_value(cls, stored)

    def json(self) -> JobJson:
        """Return the JobPart as JSON, as the farm stores it."""
        return JobJson(as_json(self))

    @property
    def frame_rate(self) -> Fraction:
        """The frame rate, in frames a second."""
        return Fraction(self.fps)


def lockstep_group(payload: Payload) -> str:
    """Return the name of a task's lockstep group within its job; "" if the task is in no group."""
    lockstep = read_lazily(WindowTask, payload).lockstep
    return lockstep.group if lockstep else ""


def held_bytes(payload: Payload) -> int:
    """Return how many bytes of device memory a task in lockstep takes while it lets another task make a step.

    The other task is in the same lockstep group and on the same device. Return 0 for a task that isn't in a lockstep
    group.
    """
    lockstep = read_lazily(WindowTask, payload).lockstep
    return lockstep.held_bytes if lockstep else 0


def precision_of(shared: JobJson) -> str:
    """Return the precision in which a job is rendered, such as "bf16"."""
    return read_lazily(JobPart, shared).precision


def delivered_frames(shared: JobJson, payload: Payload) -> tuple[int, int]:
    """Return the range of delivered frames that a decode task makes.

    Args:
        shared: The part of the plan that all tasks of the job get.
        payload: The decode task's own part of the plan.

    Returns:
        A pair: the number of the first delivered frame of the task, and the number after its last delivered frame.
    """
    told, lead = read_lazily(DecodeTask, payload), read_lazily(JobPart, shared).lead
    return told.first - lead, told.last - lead


def output_suffix_of(shared: JobJson) -> str:
    """Return the ending of the delivered file's name, such as ".mp4"; "" if the plan is too old to say it."""
    return read_lazily(JobPart, shared).output_suffix


def prompts_of(shared: JobJson) -> list[tuple[int, int, list[str]]]:
    """Return which prompts the delivered frames show.

    Returns:
        A tuple for each run of frames with the same prompts: the number of the first frame, the number of the last
        frame (not of the frame after it), and the texts of the prompts. The list is empty for older plans, which don't
        say which prompts the frames show.
    """
    told = read_lazily(JobPart, shared)
    return [
        (span.first, span.last, [told.prompts[index] for index in span.prompts])
        for span in told.prompt_frames
    ]


@dataclass(frozen=True)
class Denoised:
    """How a task denoises: with which noise levels, guidance and sampler.

    Attributes:
        sigmas: The noise levels. They fall from step to step, and the last is 0.
        guidance_scale: The scale of classifier-free guidance; 1 turns it off.
        sampler: The sampler and its options; None: Euler.
        guidance: The guidance and its options; None: only classifier-free guidance.
    """

    sigmas: tuple[float, ...]
    guidance_scale: float
    sampler: Chosen | None
    guidance: Chosen | None


def denoised(payload: Payload) -> Denoised:
    """Return how a window's task denoises. The window may be of the video or of the storyboard. Raises Unreadable."""
    told = read_lazily(WindowTask, payload)
    return Denoised(told.sigmas, told.guidance_scale, told.sampler, told.guidance)


def size_of(payload: Payload) -> tuple[int, int]:
    """Return the width and height in pixels at which a window's task denoises. Raises Unreadable."""
    told = read_lazily(WindowTask, payload)
    return told.width, told.height


def sidecar(shared: JobJson, notes: Sequence[str]) -> dict[str, Any]:
    """Return the content of the sidecar file, which says how a video was made: all fields of `shared`, and `notes`."""
    return {**cast(Mapping[str, Any], shared), "notes": list(notes)}
