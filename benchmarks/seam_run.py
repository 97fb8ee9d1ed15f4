"""One run of `seams.py run`: which videos there are to be, a row on disk for each, and what the rows say.

A row is all that is measured of one video. It is kept under a hash of everything that shapes it, so that a run that
was interrupted goes on, and one with other weights or other code begins anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import seam_jobs
import seam_peer
from seam_jobs import GIVEN, Join, Rendered, Studio, Take
from seam_measures import Positions, drift, measure
from seam_spoiled import Spoiler
from seam_statistics import (
    LEAD,
    Seam,
    Stratum,
    beside,
    compare,
    compare_paths,
    in_parts,
    path_strata_of,
    strata_of,
)

from farm.timeline import cut_windows, frames_of, latents_for
from plugins.ltx.reference.measure import track
from scheduler.windows import seams as seams_between

ROOT = Path(__file__).resolve().parents[1]
_ROOMS = ("hands", "jobs", "measures", "peer", "spoiled")
SHAPING = ("plugins/ltx/*.py", *(f"benchmarks/seam_{room}.py" for room in _ROOMS))
"""Code that a plan doesn't hold and that shapes what is measured."""

PEER = "peer"
ONE_WINDOW = "one_window"
"""A single window as long as one may be: what a video without any seam looks like."""

HEALED, UNHEALED = "healed", "unhealed"
"""Videos whose seams are spoiled on purpose, with joins that heal and with joins that may not."""

JOINS = ("ramp", "hand-over", "heal")
"""How two windows may be joined, as join tasks tell it (plugins.ltx.seam)."""


@dataclass(frozen=True)
class Row:
    """One video, measured: numbers by position, where its seams are, and the path of its shape.

    ``seams`` are those between windows in their order, which ``joins`` are of, then those of its storyboard.
    ``path`` float64 [F, 2] and ``walls`` float64 [2, 2] as ``compare_paths`` takes them, both NaN where the scene
    doesn't say; ``halo_db`` is NaN where it wasn't asked for.
    """

    positions: Positions
    seams: tuple[Seam, ...]
    path: np.ndarray
    walls: np.ndarray
    halo_db: float
    joins: tuple[Join, ...] = ()

    @property
    def shown(self) -> list[Seam]:
        """Its seams, each with all positions at which its join can show: of a heal those of the whole patch."""
        wide = [
            Seam(min(seam.first, at.first), max(seam.last, at.last)) if at else seam
            for seam, (_, at) in zip(self.seams, self.joins)
        ]
        return [*wide, *self.seams[len(wide) :]]

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        draft = path.with_suffix(".part")
        with draft.open("wb") as file:
            np.savez_compressed(
                file,
                **{name: getattr(self.positions, name) for name in ("w", "a", "lab", "sharpness")},
                seams=np.array(self.seams, int).reshape(-1, 2),
                path=self.path,
                walls=self.walls,
                halo_db=self.halo_db,
                joins=np.array([join.how for join in self.joins], str),
                healed=np.array([join.healed or (-1, -1) for join in self.joins], int).reshape(-1, 2),
            )
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> Row:
        """A row that was saved."""
        with np.load(path) as held:
            positions = Positions(**{name: held[name] for name in ("w", "a", "lab", "sharpness")})
            seams = tuple(Seam(int(first), int(last)) for first, last in held["seams"])
            joins = tuple(
                Join(str(how), Seam(int(first), int(last)) if first >= 0 else None)
                for how, (first, last) in zip(held["joins"], held["healed"], strict=True)
            )
            return Row(positions, seams, held["path"], held["walls"], float(held["halo_db"]), joins)


@dataclass(frozen=True)
class Video:
    """One video that there is to be; ``make`` renders it. ``by``: a strategy, or one of the names above."""

    by: str
    take: Take
    frames: int
    key: str
    seams: tuple[Seam, ...]
    make: Callable[[], Rendered]

    @property
    def name(self) -> str:
        """Its row's file name, without a suffix."""
        return f"{self.by}-{self.take.name}-{self.key[:12]}"


@dataclass(frozen=True)
class Settings:
    """What a run is about; ``window`` and ``overlap`` in latents, ``size`` in pixels, ``spoiled`` in seams."""

    strategies: tuple[str, ...]
    seams: int
    prompts: int
    size: tuple[int, int]
    frames: int
    window: int
    overlap: int
    steps: int | None
    seed: int
    peer: bool
    spoiled: int

    def takes(self) -> list[Take]:
        """As many seeds of every prompt as it needs for so many seams between windows.

        Raises ValueError where a video has none.
        """
        between = seams_between(cut_windows(latents_for(self.frames), self.window, self.overlap))
        if not between:
            raise ValueError(
                f"--frames: {self.frames} fit one window of {self.window} latents; "
                f"accepted: more than {frames_of(self.window)}"
            )
        seeds = math.ceil(self.seams / (self.prompts * len(between)))
        return seam_jobs.takes(self.prompts, seeds, self.size, self.frames, self.seed)


def videos(studio: Studio, settings: Settings) -> Iterator[Video]:
    """Every video of a run, take by take, so that what is done after any time is evenly spread.

    Raises InvalidSpec or ValueError for what can't be rendered.
    """
    code = _code()
    peer: list[seam_peer.Peer] = []
    longest = studio.model.max_window

    def by_peer(take: Take, windows: Sequence[Any], sigmas: Sequence[float]) -> Rendered:
        if not peer:
            peer.append(seam_peer.Peer(studio.source, studio.model))
        return Rendered(peer[0].render(take, windows, settings.overlap, sigmas))

    for number, take in enumerate(settings.takes()):
        for name in settings.strategies:
            job = studio.job(take, name, settings.window, settings.overlap, settings.steps)
            yield Video(
                name,
                take,
                take.frames,
                _hash(job.key, code, number == 0),
                tuple(seam_jobs.seams_of(job.plan)),
                lambda job=job, undivided=number == 0: studio.render(job, undivided=undivided),
            )
        one = Take(take.prompt, take.seed, take.given, take.size, min(take.frames, frames_of(longest)))
        job = studio.job(one, "autoregressive", longest, settings.overlap, settings.steps)
        # Where there would be seams if it were cut, there is nothing to be found.
        sham = seams_between(cut_windows(job.plan.latents, settings.window, settings.overlap))
        lead = job.plan.shared["lead"]
        yield Video(
            ONE_WINDOW,
            one,
            one.frames,
            _hash(job.key, code, settings.window),
            tuple(seam_jobs.positions_of(cut, lead) for cut in sham),
            lambda job=job: studio.render(job),
        )
        if settings.peer:
            windows = seam_peer.windows_of(take, settings.window, settings.overlap)
            sigmas = studio.model.sigmas(settings.steps or studio.model.steps)
            shown = take if take.given == "text" else take.first_shown()
            yield Video(
                PEER,
                shown,
                take.frames,
                _hash(repr((shown, windows, settings.overlap, sigmas)), studio.weights, code),
                tuple(seam_peer.seams_of(windows)),
                lambda shown=shown, windows=windows, sigmas=sigmas: by_peer(shown, windows, sigmas),
            )
    yield from _spoiled(studio, settings, code)


def _spoiled(studio: Studio, settings: Settings, code: str) -> Iterator[Video]:
    """Every take twice: its seams spoiled and healed, and as they are without."""
    spoiler = Spoiler(studio)
    for take in spoiler.takes(settings.spoiled, settings.prompts, settings.size, settings.seed):
        job = spoiler.job(take, settings.overlap, settings.steps)
        for by in (HEALED, UNHEALED):
            yield Video(
                by,
                take,
                take.frames,
                _hash(job.key, code, by),
                tuple(seam_jobs.seams_of(job.plan)),
                lambda take=take, job=job, heal=by == HEALED: spoiler.render(take, job, heal=heal),
            )


def fill(wanted: Sequence[Video], folder: Path, done: Callable[[Video, bool], None]) -> dict[str, Row]:
    """The row of every video by its name, rendered and measured where ``folder`` hasn't got it.

    ``done(video, fresh)`` is called as each becomes known. One video is measured while the next is rendered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, Row] = {}
    fresh: list[tuple[Video, Future[Row]]] = []

    def settle() -> None:
        while fresh:
            video, measured = fresh.pop()
            rows[video.name] = measured.result()
            done(video, True)

    # Leaving it waits for what is being measured, so that Ctrl-C costs no video that was rendered.
    with ThreadPoolExecutor(1) as pool:
        for video in wanted:
            path = folder / f"{video.name}.npz"
            if path.is_file():
                rows[video.name] = Row.load(path)
                done(video, False)
                continue
            made = video.make()
            settle()
            fresh.append((video, pool.submit(_measured, video, made, path)))
        settle()
    return rows


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
            drifts = [(drift(long.positions), drift(short.positions)) for long, short in pairs]
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
    judged = compare(_measures(rows, seams))
    tracked = _paths(rows, seams)
    found: dict[str, Any] = {name: getattr(judged, name) for name in ("auc", "auc_upper", "w", "a", "c", "s")}
    paths = compare_paths(tracked, lost) if tracked else None
    found |= {
        # A seam may have been judged in parts.
        "seams": sum(map(len, seams)),
        "videos": judged.videos,
        "position": paths and paths.ratio,
        "position_px": paths and [paths.seams, paths.interior],
    }
    joins = [join.how for row in rows for join in row.joins]
    return found | ({"joins": {how.replace("-", "_"): joins.count(how) for how in JOINS}} if joins else {})


def _strata(rows: Sequence[Row], lost: float) -> dict[str, list[Stratum]]:
    """Of every number that two makers of videos are compared by."""
    seams = [row.shown for row in rows]
    found = strata_of(_measures(rows, seams))
    paths = _paths(rows, seams)
    return found | {"auc": found["w"]} | ({"position": path_strata_of(paths, lost)} if paths else {})


def _measures(rows: Sequence[Row], seams: Sequence[Sequence[Seam]]) -> list[tuple[Positions, Sequence[Seam]]]:
    return [(row.positions, in_parts(at, len(row.positions.w))) for row, at in zip(rows, seams, strict=True)]


def _paths(
    rows: Sequence[Row], seams: Sequence[Sequence[Seam]]
) -> list[tuple[np.ndarray, np.ndarray, Sequence[Seam]]]:
    """Of those whose scene says where its shape is."""
    return [
        (row.path, row.walls, in_parts(at, len(row.path), LEAD))
        for row, at in zip(rows, seams, strict=True)
        if np.isfinite(row.walls).all()
    ]


def _measured(video: Video, made: Rendered, path: Path) -> Row:
    walls = video.take.walls
    row = Row(
        measure(made.frames),
        video.seams,
        track(made.frames) if walls is not None else np.full((len(made.frames), 2), np.nan),
        walls if walls is not None else np.full((2, 2), np.nan),
        made.halo_db,
        made.joins,
    )
    row.save(path)
    return row


def _code() -> str:
    """Hash of the code and the libraries that shape a video and its measures."""
    files = sorted(path for pattern in SHAPING for path in ROOT.glob(pattern))
    versions = [importlib.metadata.version(name) for name in ("torch", "diffusers", "opencv-python-headless")]
    return _hash(*(path.read_text() for path in files), *versions)


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
