"""Places the images and clips given with a job on the timeline of the rendered video.

Pure arithmetic. A latent holds 8 frames; only the first latent of a video holds a single frame. The rendered video
begins `lead` frames before the first delivered frame, so that the images and clips fill whole latents if possible.
Surplus frames are cut off in the end. Frames and latents are numbered from the beginning of the rendered video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.model_facts import Placing
from farm.planning import Anchor
from farm.spec import InvalidSpec
from farm.timeline import TEMPORAL, Cut, frame_span, frames_of, latents_for

FILLING = Placing()
"""The usual placing: images and clips fill whole latents where they can."""

EDGE_FRAMES = 24
"""Given frames this near to made ones are decoded by themselves, because the decoder looks to both sides."""


@dataclass(frozen=True)
class PreparedMedia:
    """A condition (an image or clip given with the job) whose file has been read.

    The image or clip covers the delivered frames [frame, frame + frames).
    """

    artifact_id: str
    frame: int
    frames: int
    strength: float

    @property
    def stop(self) -> int:
        """The index of the first frame after the image or clip, counted from the first delivered frame."""
        return self.frame + self.frames


@dataclass(frozen=True)
class Placed:
    """The place of an image or clip on the timeline of the rendered video.

    Copies of the first and the last frame pad the image or clip to a length of 8n + 1 frames, so that it fills latents.

    - `before`: how many copies of the first frame are put before the image or clip.
    - `after`: how many copies of the last frame are put after the image or clip.
    - `encoded`: the latents to which the padded image or clip is encoded. The first of these latents shows only a
      single frame. It is dropped unless the image or clip begins the video, or `beside` has this latent.
    - `whole`: the latents that show nothing but the image or clip; None if there are none.
    - `loose`: the frames in latents that also show something else, as ranges [first, last).
    - `points`: the first and the last frame of the image or clip, each only if it is in `loose`. The model gets each of
      these frames as a single image.
    - `beside`: the clip's first latents, if the model sees them as additional latents; None otherwise. The clip doesn't
      replace the video's own latents at these times: the model makes them.
    """

    before: int
    after: int
    encoded: Cut
    whole: Cut | None
    loose: tuple[tuple[int, int], ...]
    points: tuple[int, ...]
    beside: Cut | None = None


def in_order(media: Sequence[PreparedMedia]) -> tuple[int, ...]:
    """Return the indices of `media` in a fixed order, so that a plan doesn't depend on the order of the spec's list.

    Media are sorted by their first frame. If two begin at the same frame, the longer one comes first. If they are also
    equally long, the one with the higher strength comes first.
    """
    return tuple(
        sorted(
            range(len(media)), key=lambda at: (media[at].frame, -media[at].frames, -media[at].strength, at)
        )
    )


def choose_lead(media: Sequence[PreparedMedia], frames: int) -> int:
    """Return how many frames (0 to 7) to render before the first delivered frame.

    The number is chosen so that as few frames as possible of images and clips at strength 1 lie in one latent with
    frames that the model makes.

    Args:
        media: The images and clips given with the job.
        frames: The number of delivered frames.
    """
    # If a clip ends the video, copies of its last frame fill the last latent. The copies are counted too, because they
    # make the clip seem to stop: the model then draws the frames before the clip as if nothing moved.
    # Measured with ltx-tiny and a clip of 9 frames at the end: with 7 copies of its last frame, the error before the
    # clip was three times as large as with no copy and one loose frame. Copies before the first delivered frame did no
    # harm. An image stands still anyway. Not measured on released weights.
    firm = [piece for piece in media if piece.strength == 1.0]

    def lost(lead: int) -> int:
        placed = [(piece, place_media(piece, frames, lead)) for piece in firm]
        loose = sum(last - first for _, at in placed for first, last in at.loose)
        return loose + sum(at.after for piece, at in placed if _leads_up_to(piece, frames))

    return min(range(TEMPORAL), key=lambda lead: (lost(lead), lead))


def _leads_up_to(piece: PreparedMedia, frames: int) -> bool:
    """Whether the video leads up to a piece that moves."""
    return 0 < piece.frame and piece.stop == frames and piece.frames > 1


def place_media(piece: PreparedMedia, frames: int, lead: int, placing: Placing = FILLING) -> Placed:
    """Place an image or clip on the rendered timeline.

    Args:
        piece: The image or clip.
        frames: The number of delivered frames.
        lead: How many frames are rendered before the first delivered frame.
        placing: How images and clips are placed. `placing.beside` applies only to a clip of 8n + 1 frames that begins
            after delivered frame 0, at a rendered frame whose number is a multiple of 8.

    Raises:
        ValueError: The image or clip doesn't lie within the delivered frames.
    """
    if not (0 <= piece.frame and piece.frames >= 1 and piece.stop <= frames):
        raise ValueError(
            f"the image or clip at frames [{piece.frame}, {piece.stop}) does not lie within the {frames} delivered frames"
        )
    first, last = piece.frame + lead, piece.stop + lead - 1
    whole_latents = not first % TEMPORAL and not (last - first) % TEMPORAL
    if placing.beside and piece.frame and piece.frames > 1 and whole_latents:
        return _beside(first, last, placing.beside)
    # What comes before the first delivered frame, or after the last, is nobody's: the media may fill it.
    begins, ends = piece.frame == 0, piece.stop == frames
    start = 0 if begins else -(-first // TEMPORAL)
    stop = latents_for(lead + frames) if ends else -(-last // TEMPORAL) + 1
    encoded = Cut(max(0, start - 1), stop)
    before = first - TEMPORAL * encoded.start
    after = TEMPORAL * (stop - 1) - last

    def shown(latent: int) -> tuple[int, int]:
        """Delivered frames of a latent; empty where the first isn't below the last."""
        low, high = frame_span(latent, latent + 1)
        return max(low, lead), min(high, lead + frames)

    def filled(latent: int) -> bool:
        low, high = shown(latent)
        return low < high and first <= low and high <= last + 1

    full = [latent for latent in range(start, stop) if filled(latent)]
    whole = None
    if full:
        low, high = full[0], full[-1] + 1
        while low > start and shown(low - 1)[0] >= shown(low - 1)[1]:
            low -= 1
        while high < stop and shown(high)[0] >= shown(high)[1]:
            high += 1
        whole = Cut(low, high)
    if not placing.fill and piece.frame and piece.frames == 1:
        whole = None
    loose = _left_over(first, last + 1, whole)
    edges = [span[0] for span in loose if span[0] == first] + [
        span[1] - 1 for span in loose if span[1] == last + 1
    ]
    return Placed(before, after, encoded, whole, loose, tuple(sorted(set(edges))))


def _beside(first: int, last: int, most: int) -> Placed:
    """Place a clip as Lightricks' pipeline does: encoded as a whole, its first `most` latents beside the video's own.

    Source: LTX-Video, pipeline_ltx_video.py, _handle_non_first_conditioning_sequence.
    """
    encoded = Cut(first // TEMPORAL, last // TEMPORAL + 1)
    split = min(encoded.start + most, encoded.stop)
    whole = Cut(split, encoded.stop) if split < encoded.stop else None
    loose = _left_over(first, last + 1, whole)
    return Placed(0, 0, encoded, whole, loose, (), Cut(encoded.start, split))


def source_of(media: Sequence[PreparedMedia], frames: int, placing: Placing = FILLING) -> int | None:
    """Return the index in `media` of the clip that the job reworks; None if the job reworks none.

    To rework a clip is to noise its latents and denoise them again. A job reworks a clip that covers all `frames`
    frames of the video, if the clip's strength is below `placing.rework_below`. If there are several such clips, the
    job reworks the one with the highest strength.
    """
    over = [
        index
        for index, piece in enumerate(media)
        if piece.strength < placing.rework_below and piece.frame == 0 and piece.stop >= frames
    ]
    return max(over, key=lambda index: media[index].strength, default=None)


def anchors(media: Sequence[tuple[PreparedMedia, Placed]]) -> tuple[Anchor, ...]:
    """Return an Anchor (which latents hold the image or clip) for each image or clip at strength 1.

    The anchors are sorted by length, the longest first. Of equally long ones, the earliest comes first.
    """
    firm = [index for index, (piece, _) in enumerate(media) if piece.strength == 1.0]
    firm.sort(key=lambda at: (-media[at][0].frames, media[at][0].frame))
    return tuple(_anchor(index, media[index][1]) for index in firm)


def _anchor(index: int, at: Placed) -> Anchor:
    starts = [-(-frame // TEMPORAL) for frame in at.points]
    stops = [frame // TEMPORAL + 1 for frame in at.points]
    for cut in (at.whole, at.beside):
        if cut:
            starts, stops = [*starts, cut.start], [*stops, cut.stop]
    return Anchor(index, min(starts), max(stops), at.encoded.start)


def longest(strength: float, frames: int, placing: Placing) -> int:
    """Return how many frames a clip of the given strength may have in a video of `frames` frames.

    The usual limit is `frames`. If the job would rework the clip and `placing.fill` is False, the clip may also cover
    the surplus frames of the video's last latent.
    """
    reworked = strength < placing.rework_below and not placing.fill
    return frames_of(latents_for(frames)) if reworked else frames


def check_apart(media: Sequence[PreparedMedia], frames: int, placing: Placing = FILLING) -> None:
    """Raise InvalidSpec if an image or clip ends after the last frame, or if two of them cover the same frame.

    Only the clip that the job reworks (`source_of`) may share frames with other images and clips. If several clips
    could be reworked, the job reworks the one with the highest strength. So these clips must differ in strength.

    Args:
        media: The images and clips given with the job, in the order of the spec.
        frames: The number of delivered frames.
        placing: How images and clips are placed.
    """
    source = source_of(media, frames, placing)
    for index, piece in enumerate(media):
        field = f"conditions.{index}.frame"
        if piece.stop > (longest(piece.strength, frames, placing) if index == source else frames):
            most = frames - piece.frames
            raise InvalidSpec(
                field,
                f"must be at most {most} (so that {_its(piece.frames)} within the {frames} frames of the video), "
                f"got {piece.frame}"
                if most >= 0
                else f"the clip has {piece.frames} frames, but the video has only {frames} frames",
            )
        for other, earlier in enumerate(media[:index]):
            if source in (index, other):
                span, same = (piece.frame, piece.stop), (earlier.frame, earlier.stop)
                if (span, piece.strength) == (same, earlier.strength):
                    raise InvalidSpec(
                        f"conditions.{index}.strength",
                        f"must differ from {earlier.strength:g}, the strength of conditions.{other}, because both clips cover "
                        f"all {frames} frames: the job makes a new version of the clip with the greater strength",
                    )
                continue
            if piece.frame < earlier.stop and earlier.frame < piece.stop:
                meets = "overlaps" if piece.frames == 1 else "overlap"
                raise InvalidSpec(
                    field,
                    f"{_span(piece)} {meets} conditions.{other}, which covers {_span(earlier)}; "
                    "only one condition may cover a frame",
                )


def _its(frames: int) -> str:
    return "its frame lies" if frames == 1 else f"its {frames} frames end"


def _span(piece: PreparedMedia) -> str:
    return f"frame {piece.frame}" if piece.frames == 1 else f"frames {piece.frame} to {piece.stop - 1}"


def edges(piece: PreparedMedia, begins: int, ends: int, frames: int) -> list[tuple[int, int]]:
    """Return the first and last EDGE_FRAMES frames of an image or clip, where new frames come before or after it.

    New frames are frames that the model makes. The returned frames would change if they were decoded together with new
    frames.

    Args:
        piece: The image or clip.
        begins: The number that the first frame of `piece` has in the rendered video.
        ends: The number that the frame after the last frame of `piece` has in the rendered video.
        frames: The number of frames of the delivered video.

    Returns:
        Ranges [first, last) of frames. There is a range at the start if new frames come before the image or clip. There
        is a range at the end if new frames come after it. Ranges that meet are returned as one.
    """
    first = (begins, min(begins + EDGE_FRAMES, ends)) if piece.frame else (begins, begins)
    last = (max(ends - EDGE_FRAMES, begins), ends) if piece.stop < frames else (ends, ends)
    if first[1] >= last[0]:
        return [(first[0], last[1])] if first[1] > first[0] or last[1] > last[0] else []
    return [span for span in (first, last) if span[1] > span[0]]


def _left_over(first: int, stop: int, whole: Cut | None) -> tuple[tuple[int, int], ...]:
    """Parts of the frames [first, stop) outside the frames of `whole`."""
    if whole is None:
        return ((first, stop),)
    low, high = frame_span(whole.start, whole.stop)
    found = []
    if first < low:
        found.append((first, low))
    if high < stop:
        found.append((high, stop))
    return tuple(found)
