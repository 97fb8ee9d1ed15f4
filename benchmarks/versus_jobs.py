"""The jobs that `versus.py` gives to the farm and to its peer, and what it reads from the videos of either."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from asked_cases import Case, backgrounds, following
from seam_jobs import MODEL, Join
from seam_measures import Positions, drift, measure
from seam_run import Row
from seam_statistics import Seam, Stratum, in_parts, strata_of
from seam_takes import FPS

from farm.media.clips import read_frames
from plugins.outputs.mp4 import encode_segment

STRATEGY = "hierarchical"
"""The farm's default for anything longer than one window."""

CLIP_FRAMES = 9

RATE = Fraction(FPS)


@dataclass(frozen=True)
class Asked:
    """One job: nine frames in the file ``clip``, and three timed prompts that change the colour of what moves."""

    number: int
    case: Case
    clip: Path

    @property
    def frames(self) -> int:
        """Frames to deliver."""
        return self.case.fields["frames"]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.case.fields["width"], self.case.fields["height"]

    @property
    def fields(self) -> dict[str, Any]:
        """The spec's fields, all but what it is made from."""
        return {"model": MODEL, "fps": FPS, **self.case.fields}

    @cached_property
    def given(self) -> np.ndarray:
        """uint8 RGB [9, H, W, 3]: the clip as it is read from its file."""
        return read_frames(self.clip, *self.size, RATE)

    def prompt_at(self, frame: int) -> str | None:
        """The prompt of a frame; None within a cross-fade."""
        text = self.case.fields["prompt"]
        for later in self.case.fields["later_prompts"]:
            if frame >= later["frame"]:
                faded = frame >= later["frame"] + self.case.fields["crossfade_frames"]
                text = later["text"] if faded else None
        return text

    def followed(self, frames: np.ndarray) -> float:
        """Share of frames, outside cross-fades, that have their prompt's colour."""
        return self.case.measure(frames)["followed"]


def asked_jobs(frames: int, size: tuple[int, int], folder: Path) -> Iterator[Asked]:
    """Jobs without end, their clips written to ``folder``: those of `asked.py` that have a clip and change colours."""
    for number in count():
        case = following(number, STRATEGY, frames=frames, size=size)
        texts = [case.fields["prompt"], *(later["text"] for later in case.fields["later_prompts"])]
        hues = {text.split()[1] for text in texts}
        if not case.given or len(case.given[0][1]) != CLIP_FRAMES or len(hues) < len(texts):
            continue
        clip = folder / f"{number}.mp4"
        encode_segment(case.given[0][1], clip, *size, RATE, crf=6)
        yield Asked(number, case, clip)


class Picture(NamedTuple):
    """A video as it came out of the decoder, uint8 RGB [F, H, W, 3], with no codec between.

    ``seams``: where it is handed over; ``changes``: positions at which its maker lets one prompt follow another;
    ``joins``: how the first of the seams were joined, where that is told.
    """

    frames: np.ndarray
    seams: tuple[Seam, ...]
    changes: tuple[Seam, ...]
    joins: tuple[Join, ...] = ()


def judged(picture: Picture) -> dict[str, Any]:
    """What is kept of a video's seams and drift, as JSON.

    "w": the strata of W (``strata_besides``); "drift": how far the background's colour goes, which all prompts name
    alike, from the first 15 % of the frames to the last 15 %, in Lab (CIE76).
    """
    positions = measure(picture.frames)
    nowhere = np.full((len(picture.frames), 2), np.nan)
    shown = Row(positions, picture.seams, nowhere, nowhere[:2], math.nan, picture.joins).shown
    ground = cv2.cvtColor(
        np.asarray(backgrounds(picture.frames)[None], np.float32) / 255.0, cv2.COLOR_RGB2LAB
    )[0]
    return {
        "drift": drift(replace(positions, lab=ground)).lab,
        "w": [
            {"seams": list(one.seams), "interior": list(one.interior)}
            for one in strata_besides(positions, shown, picture.changes)
        ],
    }


def strata(rows: Sequence[dict[str, Any]]) -> list[Stratum]:
    """The strata of some videos from what ``judged`` kept of them."""
    return [
        Stratum(video, np.array(one["seams"]), np.array(one["interior"]))
        for video, row in enumerate(rows)
        for one in row["w"]
    ]


def strata_besides(positions: Positions, seams: Sequence[Seam], changes: Sequence[Seam]) -> list[Stratum]:
    """The strata of W at a video's seams, without the positions at which it is asked to change.

    A change of prompt is no seam, and counted as interior it would hide one. A seam that touches one is left out.
    """

    def touches(seam: Seam) -> bool:
        return any(seam.first <= change.last and change.first <= seam.last for change in changes)

    own = [seam for seam in seams if not touches(seam)]
    # Halved until there is interior as long that touches no change either.
    parts = [part for part in in_parts([*own, *changes], len(positions.w)) if not touches(part)]
    if not parts:
        return []
    known = positions.w.copy()
    for change in changes:
        known[change.first : change.last + 1] = np.nan
    found = strata_of([(replace(positions, w=known), parts)])["w"]
    # What touches a change is not a number.
    return [replace(one, interior=one.interior[np.isfinite(one.interior)]) for one in found]
