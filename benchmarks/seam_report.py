"""What the rows of one run of `seams.py run` say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from seam_measures import Drift, Positions, drift, ends_of
from seam_paths import LEAD, compare_paths, path_strata_of
from seam_run import HEALED, ONE_WINDOW, PEER, UNHEALED, Row, Video
from seam_statistics import (
    PERIOD,
    Seam,
    Stratum,
    apart,
    beside,
    compare,
    compare_changes,
    in_parts,
    interior_of,
    strata_of,
)
from seam_takes import GIVEN

JOINS = ("ramp", "hand-over", "heal")
"""How two windows may be joined, as join tasks tell it (plugins.ltx.seam)."""


def report(wanted: Sequence[Video], rows: dict[str, Row]) -> dict[str, Any]:
    """What the rows say: an object for each strategy, the peer, the single windows and the healed seams."""
    single = {(v.take.prompt, v.take.seed): rows[v.name] for v in wanted if v.by == ONE_WINDOW}
    by_maker = {
        by: [video for video in wanted if video.by == by] for by in dict.fromkeys(v.by for v in wanted)
    }
    spoiled = {by: [rows[video.name] for video in by_maker.pop(by, [])] for by in (HEALED, UNHEALED)}
    found: dict[str, Any] = {}
    for by, some in by_maker.items():
        lost = some[0].take.size[0]
        mine = [rows[video.name] for video in some]
        found[by] = _judge(mine, lost)
        if by != ONE_WINDOW:
            pairs = [(rows[v.name], single[v.take.prompt, v.take.seed]) for v in some]
            drifts = [
                tuple(_drift(row, ends_of(len(short.positions.w))) for row in (long, short))
                for long, short in pairs
            ]
            found[by] |= {
                "drift_lab": float(np.median([long.lab - short.lab for long, short in drifts])),
                "drift_sharpness": float(
                    np.median([long.sharpness / short.sharpness for long, short in drifts])
                ),
            }
            halo = [row.halo_db for row in mine if math.isfinite(row.halo_db)]
            found[by] |= {"halo_db": min(halo) if halo else None}
        if by not in (PEER, ONE_WINDOW) and PEER in by_maker:
            peers = [rows[video.name] for video in by_maker[PEER]]
            found[by]["beside_peer"] = beside(_strata(mine, lost), _strata(peers, lost))
        if any(row.fades for row in mine):
            found[by]["changes"] = compare_changes(
                [(row.positions, row.shown[: len(row.joins) or None], row.fades) for row in mine]
            )
        kinds = {given: [rows[v.name] for v in some if v.take.given == given] for given in GIVEN}
        found[by]["given"] = {given: _judge(of_kind, lost) for given, of_kind in kinds.items() if of_kind}
    return found | {HEALED: _healing(**spoiled, lost=wanted[0].take.size[0])}


def _healing(healed: Sequence[Row], unhealed: Sequence[Row], lost: float) -> dict[str, Any] | None:
    """Of the same seams, healed and not, at the same positions: all that a heal makes anew, and those shared alone."""
    if not healed:
        return None
    # Those of their storyboards are nobody's to heal.
    patches = [row.shown[: len(row.joins)] for row in healed]
    found, beside = (
        _judge(rows, lost, patches)
        | {"at_seam": _judge(rows, lost, [row.seams[: len(row.joins)] for row in rows])}
        for rows in (healed, unhealed)
    )
    return found | {UNHEALED: beside}


def _judge(rows: Sequence[Row], lost: float, seams: Sequence[Sequence[Seam]] = ()) -> dict[str, Any]:
    """``seams`` of each row; its own as they show by default."""
    seams = seams or [row.shown for row in rows]
    judged = compare(*_measures(rows, seams))
    tracked, beyond = _paths(rows, seams)
    found: dict[str, Any] = {name: getattr(judged, name) for name in ("auc", "auc_upper", "w", "a", "c", "s")}
    paths = compare_paths(tracked, lost, beyond) if tracked else None
    met = sum(len(apart(at, row.fades)[1]) for row, at in zip(rows, seams, strict=True))
    found |= {
        # A seam may have been judged in parts.
        "seams": sum(map(len, seams)) - met,
        "videos": judged.videos,
        "position": paths and paths.ratio,
        "position_px": paths and [paths.seams, paths.interior],
    }
    if any(row.fades for row in rows):
        found |= {"seams_in_crossfades": met, "position_parts": sum(len(at) for *_, at in tracked)}
    joins = [join.how for row in rows for join in row.joins]
    return found | ({"joins": {how.replace("-", "_"): joins.count(how) for how in JOINS}} if joins else {})


def _strata(rows: Sequence[Row], lost: float) -> dict[str, list[Stratum]]:
    """Of every number that two makers of videos are compared by."""
    seams = [row.shown for row in rows]
    found = strata_of(*_measures(rows, seams))
    paths, beyond = _paths(rows, seams)
    return found | {"auc": found["w"]} | ({"position": path_strata_of(paths, lost, beyond)} if paths else {})


def _measures(
    rows: Sequence[Row], seams: Sequence[Sequence[Seam]]
) -> tuple[list[tuple[Positions, Sequence[Seam]]], list[Sequence[Seam]]]:
    """What ``compare`` takes: the videos, and what is left out of each."""
    videos: list[tuple[Positions, Sequence[Seam]]] = []
    beyond: list[Sequence[Seam]] = []
    for row, at in zip(rows, seams, strict=True):
        clear, met = apart(at, row.fades)
        left_out = [*row.fades, *met]
        videos.append((row.positions, in_parts(clear, len(row.positions.w), left_out=left_out)))
        beyond.append(left_out)
    return videos, beyond


def _paths(
    rows: Sequence[Row], seams: Sequence[Sequence[Seam]]
) -> tuple[list[tuple[np.ndarray, np.ndarray, Sequence[Seam]]], list[Sequence[Seam]]]:
    """What ``compare_paths`` takes, of those whose scene says where its shape is."""
    videos: list[tuple[np.ndarray, np.ndarray, Sequence[Seam]]] = []
    beyond: list[Sequence[Seam]] = []
    for row, at in zip(rows, seams, strict=True):
        if not np.isfinite(row.walls).all():
            continue
        frames = len(row.path)
        clear, met = apart(at, row.fades, LEAD)
        left_out = [*row.fades, *met]
        parts = in_parts([seam for seam in clear if seam.last < frames], frames, LEAD, left_out)
        if row.fades:
            # Cross-fades may leave a part nothing to be compared with: motion is taken up from 24 frames before.
            fences = [*parts, *left_out]
            parts = [
                part
                for part in parts
                if interior_of(part.last - part.first, part.first % PERIOD, frames, fences, LEAD)
            ]
            left_out += [part for part in fences if part not in parts and part not in left_out]
        if parts:
            videos.append((row.path, row.walls, parts))
            beyond.append(left_out)
    return videos, beyond


def _drift(row: Row, ends: int) -> Drift:
    """From the first ``ends`` frames of a video to the last; with timed prompts the mean of what happens while each shows."""
    frames, first = len(row.positions.w), 0
    runs = []
    # A cross-fade's first position leads into its first frame, its last out of its last.
    for start, stop in [*((fade.first, fade.last) for fade in row.fades), (frames, frames)]:
        if start > first:
            runs.append(slice(first, start))
        first = stop
    each = [
        drift(
            Positions(**{name: getattr(row.positions, name)[run] for name in ("w", "a", "lab", "sharpness")}),
            ends,
        )
        for run in runs
    ]
    return Drift(*(float(np.mean([getattr(one, name) for one in each])) for name in ("lab", "sharpness")))
