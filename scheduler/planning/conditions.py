"""Place given media on the timeline: find the latents that they fill, and their frames that fill no whole latent.

Pure arithmetic. Frames and latents are those of the rendered timeline. This timeline begins `lead` frames before the
first delivered frame, so that media fill whole latents; the surplus frames are cut off in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from farm.planning import Anchor
from farm.spec import InvalidSpec
from farm.timeline import TEMPORAL, Cut, frame_span, latents_for

EDGE_FRAMES = 24
"""Given frames this near to made ones are decoded by themselves, because the decoder looks to both sides."""


@dataclass(frozen=True)
class PreparedMedia:
    """A condition whose media file has been read: it fills the delivered frames [frame, frame + frames)."""

    artifact_id: str
    frame: int
    frames: int
    strength: float

    @property
    def stop(self) -> int:
        """The delivered frame after the media's last frame."""
        return self.frame + self.frames


@dataclass(frozen=True)
class Placed:
    """Media on the rendered timeline.

    - `before`, `after`: how often the media's first and last frame are repeated, so that it is 8n + 1 frames long.
    - `encoded`: the latents to which the media is encoded then. Unless they begin the video, the first of them shows a
      single frame, only leads up to the others, and is dropped.
    - `whole`: the latents that show nothing but the media; None if there are none.
    - `loose`: spans [first, last) of the media's frames in all other latents.
    - `points`: frames of the media that border on new frames; the model is shown each of them by itself.
    """

    before: int
    after: int
    encoded: Cut
    whole: Cut | None
    loose: tuple[tuple[int, int], ...]
    points: tuple[int, ...]


def in_order(media: Sequence[PreparedMedia]) -> tuple[int, ...]:
    """Return the indices of `media`, sorted by frame, so that a plan doesn't depend on the order of the spec's list.

    If media begin at the same frame, the longest comes first; of equally long ones, the one with the highest strength.
    Two media that `check_apart` accepts always differ in frame, length or strength.
    """
    return tuple(
        sorted(
            range(len(media)), key=lambda at: (media[at].frame, -media[at].frames, -media[at].strength, at)
        )
    )


def choose_lead(media: Sequence[PreparedMedia], frames: int) -> int:
    """Return how many frames (0 to 7) to render before the first delivered one.

    Of the possible leads, choose the one that leaves the fewest given frames loose or repeated. If a clip ends the
    video, its last frame is repeated to fill the last latent; the clip then seems to stop, and the model draws the
    frames before it as if the shape stood still there. Measured with ltx-tiny and a clip of 9 frames: with 7 repeated
    frames the error before the clip was three times as large as with no repeated and one loose frame. Frames repeated
    before the first delivered frame did no harm, and an image stands still anyway. Not measured on released weights.
    """
    firm = [piece for piece in media if piece.strength == 1.0]

    def lost(lead: int) -> int:
        placed = [(piece, place_media(piece, frames, lead)) for piece in firm]
        loose = sum(last - first for _, at in placed for first, last in at.loose)
        return loose + sum(at.after for piece, at in placed if _leads_up_to(piece, frames))

    return min(range(TEMPORAL), key=lambda lead: (lost(lead), lead))


def _leads_up_to(piece: PreparedMedia, frames: int) -> bool:
    """Whether the video leads up to a piece that moves."""
    return 0 < piece.frame and piece.stop == frames and piece.frames > 1


def place_media(piece: PreparedMedia, frames: int, lead: int) -> Placed:
    """Place `piece` on a timeline that is rendered from `lead` frames before the first of `frames` delivered frames.

    Raises ValueError if the piece doesn't lie within the delivered frames.
    """
    if not (0 <= piece.frame and piece.frames >= 1 and piece.stop <= frames):
        raise ValueError(
            f"media at frames [{piece.frame}, {piece.stop}) lie outside the {frames} delivered frames"
        )
    first, last = piece.frame + lead, piece.stop + lead - 1
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
    loose = _left_over(first, last + 1, whole)
    edges = [span[0] for span in loose if span[0] == first] + [
        span[1] - 1 for span in loose if span[1] == last + 1
    ]
    return Placed(before, after, encoded, whole, loose, tuple(sorted(set(edges))))


def source_of(media: Sequence[PreparedMedia], frames: int) -> int | None:
    """Return the index in `media` of the video that the job reworks; None if the job reworks none.

    The job reworks a video if media cover all frames at a strength below 1; of several, the one of highest strength.
    """
    over = [
        index
        for index, piece in enumerate(media)
        if piece.strength < 1.0 and piece.frame == 0 and piece.stop == frames
    ]
    return max(over, key=lambda index: media[index].strength, default=None)


def anchors(media: Sequence[tuple[PreparedMedia, Placed]]) -> tuple[Anchor, ...]:
    """Return the media at strength 1, the longest first; of equally long media, the earliest first."""
    firm = [index for index, (piece, _) in enumerate(media) if piece.strength == 1.0]
    firm.sort(key=lambda at: (-media[at][0].frames, media[at][0].frame))
    return tuple(_anchor(index, media[index][1]) for index in firm)


def _anchor(index: int, at: Placed) -> Anchor:
    starts = [-(-frame // TEMPORAL) for frame in at.points]
    stops = [frame // TEMPORAL + 1 for frame in at.points]
    if at.whole:
        starts, stops = [*starts, at.whole.start], [*stops, at.whole.stop]
    return Anchor(index, min(starts), max(stops), at.encoded.start)


def check_apart(media: Sequence[PreparedMedia], frames: int) -> None:
    """Raise InvalidSpec if media end after the last frame, or if two of them fill the same frame.

    Only the video that the job reworks (`source_of`) may share frames with other media. If two media could be that
    video, their strengths must differ, because otherwise the order of the list would decide.
    """
    source = source_of(media, frames)
    for index, piece in enumerate(media):
        field = f"conditions.{index}.frame"
        if piece.stop > frames:
            most = frames - piece.frames
            raise InvalidSpec(
                field,
                f"must be at most {most}, so that {_its(piece.frames)} within the {frames} frames of the job, "
                f"got {piece.frame}"
                if most >= 0
                else f"its {piece.frames} frames are more than the {frames} frames of the job",
            )
        for other, earlier in enumerate(media[:index]):
            if source in (index, other):
                span, same = (piece.frame, piece.stop), (earlier.frame, earlier.stop)
                if (span, piece.strength) == (same, earlier.strength):
                    raise InvalidSpec(
                        f"conditions.{index}.strength",
                        f"must differ from the strength {earlier.strength:g} of conditions.{other}, got the same; both "
                        f"cover all {frames} frames, and the job reworks the one with the higher strength",
                    )
                continue
            if piece.frame < earlier.stop and earlier.frame < piece.stop:
                meets = "meets" if piece.frames == 1 else "meet"
                raise InvalidSpec(
                    field,
                    f"{_span(piece)} {meets} conditions.{other}, which has {_span(earlier)}; each frame can be given only once",
                )


def _its(frames: int) -> str:
    return "its frame lies" if frames == 1 else f"its {frames} frames end"


def _span(piece: PreparedMedia) -> str:
    return f"frame {piece.frame}" if piece.frames == 1 else f"frames {piece.frame} to {piece.stop - 1}"


def edges(piece: PreparedMedia, begins: int, ends: int, frames: int) -> list[tuple[int, int]]:
    """Return the frames of the media's span [begins, ends) that lie so near to new frames that these change them.

    The frames are returned as spans [first, last), one for each end of the media that borders on new frames.
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
