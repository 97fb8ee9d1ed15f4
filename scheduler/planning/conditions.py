"""Place given media on the timeline: find the latents that they fill, and the frames that fill no latent.

Pure arithmetic. Frames and latents are those of the rendered timeline. It begins `lead` frames before the first
delivered frame, so that media fill whole latents; the surplus frames are cut off.
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
    """A condition whose media has been looked at: it shows in the delivered frames [frame, frame + frames)."""

    artifact_id: str
    frame: int
    frames: int
    strength: float

    @property
    def stop(self) -> int:
        """The delivered frame after the last one of the media."""
        return self.frame + self.frames


@dataclass(frozen=True)
class Placed:
    """Media on the rendered timeline.

    With the first frame repeated `before` times and the last one `after` times, the media is 8n + 1 frames long and
    encodes to the latents of `encoded`. Unless these begin the video, the first of them holds a single frame and is
    only run-up. The latents of `whole` show nothing but the media (None: no latent does). `loose` are spans [first,
    last) of the media's frames in the other latents. `points` are frames of the media at the edge of made frames; the
    model is shown each by itself.
    """

    before: int
    after: int
    encoded: Cut
    whole: Cut | None
    loose: tuple[tuple[int, int], ...]
    points: tuple[int, ...]


def in_order(media: Sequence[PreparedMedia]) -> tuple[int, ...]:
    """Return the places in `media` by rising frame, so that a plan doesn't depend on the order of the spec's list.

    Of media that begin at one frame the longest comes first, then the firmest. Media that `check_apart` accepts
    differ in one of the three.
    """
    return tuple(
        sorted(
            range(len(media)), key=lambda at: (media[at].frame, -media[at].frames, -media[at].strength, at)
        )
    )


def choose_lead(media: Sequence[PreparedMedia], frames: int) -> int:
    """Return how many frames (0 to 7) to render before the first delivered one.

    The lead leaves the fewest given frames loose or repeated. Where a clip ends the video, its last frame fills up
    the last latent, and so stands still: the frames that lead up to it are drawn as if the shape stood there. From a
    clip of 9 frames ltx-tiny went three times as far astray backwards with 7 repeated frames as with none and one
    loose frame. Frames repeated before the first delivered one did no harm, and an image stands still anyway. Not
    measured on released weights.
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
    """Place `piece` on a timeline of `frames` delivered frames that is rendered from `lead` frames earlier on.

    Raises ValueError when the piece doesn't lie within the delivered frames.
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
    """Return which of `media` is the video that the job is made over, or None.

    It is the firmest of the media that cover all frames at a strength below 1.
    """
    over = [
        index
        for index, piece in enumerate(media)
        if piece.strength < 1.0 and piece.frame == 0 and piece.stop == frames
    ]
    return max(over, key=lambda index: media[index].strength, default=None)


def anchors(media: Sequence[tuple[PreparedMedia, Placed]]) -> tuple[Anchor, ...]:
    """Return the media at strength 1, the longest first; of equally long ones the one that is seen first."""
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
    """Raise InvalidSpec if media end past the last frame, or if two of them claim the same frame.

    Other media may claim frames of the video that the job is made over (`source_of`). Two media that could both be
    that video must differ in strength, because otherwise the order of the list would decide.
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
                        f"cover all {frames} frames, and the firmer one is the video that the job is made over",
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
    """Return those frames of the media's span [begins, ends) that lie near enough to made frames to be changed by
    them.
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
