"""One run of `seams.py run`: which videos there are to be, and a row on disk for each.

A row is all that is measured of one video. It is kept under a hash of everything that shapes it, so that a run that
was interrupted goes on, and one with other weights or other code begins anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import _root  # noqa: F401 - before training
import numpy as np
import seam_jobs
import seam_peer
import seam_takes
from seam_jobs import Join, Rendered, Studio
from seam_measures import Positions, measure
from seam_spoiled import Spoiler
from seam_statistics import Seam, apart
from seam_takes import CROSSFADE, Take

from farm.plan import JobPart
from farm.timeline import TEMPORAL, cut_windows, frames_of, latents_for
from scheduler.planning.prompts import PromptTimeline
from scheduler.planning.windows import seams as seams_between
from training.ltx_tiny.measure import track

ROOT = Path(__file__).resolve().parents[1]
_ROOMS = ("jobs", "measures", "peer", "spoiled", "takes")
_SCENES = ("measure", "scenes")
SHAPING = (
    "plugins/ltx/*.py",
    "renderer/local.py",
    *(f"training/ltx_tiny/{room}.py" for room in _SCENES),
    *(f"benchmarks/seam_{room}.py" for room in _ROOMS),
)
"""Code that a plan doesn't hold and that shapes what is measured."""

PEER = "peer"
ONE_WINDOW = "one_window"
"""A single window as long as one may be: what a video without any seam looks like."""

HEALED, UNHEALED = "healed", "unhealed"
"""Videos whose seams are spoiled on purpose, with joins that heal and with joins that may not."""


@dataclass(frozen=True)
class Row:
    """One video, measured: numbers by position, where its seams are, and the path of its shape.

    ``seams`` are those between windows in their order, which ``joins`` are of, then those of its storyboard; ``fades``
    the cross-fades between its prompts in theirs. ``path`` float64 [F, 2] and ``walls`` float64 [2, 2] as
    ``compare_paths`` takes them, both NaN where the scene doesn't say; the path ends where the shape may become one of
    another size. ``halo_db`` is NaN where it wasn't asked for.
    """

    positions: Positions
    seams: tuple[Seam, ...]
    path: np.ndarray
    walls: np.ndarray
    halo_db: float
    joins: tuple[Join, ...] = ()
    fades: tuple[Seam, ...] = ()

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
                fades=np.array(self.fades, int).reshape(-1, 2),
            )
        os.replace(draft, path)

    @staticmethod
    def load(path: Path) -> Row:
        """A row that was saved."""
        with np.load(path) as held:
            positions = Positions(**{name: held[name] for name in ("w", "a", "lab", "sharpness")})
            seams, fades = (
                tuple(Seam(int(first), int(last)) for first, last in held[name])
                for name in ("seams", "fades")
            )
            joins = tuple(
                Join(str(how), Seam(int(first), int(last)) if first >= 0 else None)
                for how, (first, last) in zip(held["joins"], held["healed"], strict=True)
            )
            return Row(positions, seams, held["path"], held["walls"], float(held["halo_db"]), joins, fades)


@dataclass(frozen=True)
class Video:
    """One video that there is to be; ``make`` renders it. ``by``: a strategy, or one of the names above."""

    by: str
    take: Take
    frames: int
    key: str
    seams: tuple[Seam, ...]
    make: Callable[[], Rendered]
    fades: tuple[Seam, ...] = ()

    @property
    def name(self) -> str:
        """Its row's file name, without a suffix."""
        return f"{self.by}-{self.take.name}-{self.key[:12]}"


@dataclass(frozen=True)
class Settings:
    """What a run is about; ``window`` and ``overlap`` in latents, ``size`` in pixels, ``spoiled`` in seams.

    ``says``: what prompts say, as in Take.
    """

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
    says: str = "caption"

    def takes(self) -> list[Take]:
        """As many seeds of every prompt as it needs for so many seams between windows that no cross-fade meets.

        Raises ValueError where a video has none.
        """
        between = seams_between(cut_windows(latents_for(self.frames), self.window, self.overlap))
        if not between:
            raise ValueError(
                f"--frames: {self.frames} fit one window of {self.window} latents; "
                f"accepted: more than {frames_of(self.window)}"
            )
        found: list[Take] = []
        judged = 0
        while judged < self.seams:
            more = self._of_seed(self.seed + len(found) // self.prompts)
            left = [
                len(apart([seam_jobs.positions_of(seam) for seam in between], _faded(take))[0])
                for take in more
            ]
            if not any(left):
                raise ValueError(
                    f"--frames: in {self.frames} frames every seam meets a cross-fade of timed prompts; "
                    "accepted: more frames"
                )
            found += more
            judged += sum(left)
        return found

    def _of_seed(self, seed: int) -> list[Take]:
        return seam_takes.takes(self.prompts, 1, self.size, self.frames, seed, self.says)


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
                partial(studio.render, job, undivided=number == 0),
                tuple(seam_jobs.fades_of(JobPart.of(job.plan.shared).prompt_frames)),
            )
        one = _alone(take, longest)
        job = studio.job(one, "autoregressive", longest, settings.overlap, settings.steps)
        # Where there would be seams if it were cut, there is nothing to be found.
        shorter = min(settings.window, (job.plan.latents + settings.overlap + 1) // 2)
        sham = seams_between(cut_windows(job.plan.latents, shorter, settings.overlap))
        lead = JobPart.of(job.plan.shared).lead
        yield Video(
            ONE_WINDOW,
            one,
            one.frames,
            _hash(job.key, code, shorter),
            tuple(seam_jobs.positions_of(cut, lead) for cut in sham),
            partial(studio.render, job),
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
                partial(by_peer, shown, windows, sigmas),
                tuple(seam_peer.fades_of(shown, windows)),
            )
    yield from _spoiled(studio, settings, code)


def _alone(take: Take, longest: int) -> Take:
    """The take as one window of at most ``longest`` latents. Of timed prompts it has room for the first alone."""
    says = "caption" if take.says == "timed" else take.says
    return replace(take, frames=min(take.frames, frames_of(longest)), says=says)


def _faded(take: Take) -> list[Seam]:
    """Where its prompts may give way to each other, wherever what it is given makes the first latent begin."""
    prompts = PromptTimeline.of(take.prompts, take.changes, CROSSFADE)
    sure = seam_jobs.fades_of(prompts.spans(0, take.frames))
    return [Seam(fade.first - TEMPORAL, fade.last + TEMPORAL) for fade in sure]


def _spoiled(studio: Studio, settings: Settings, code: str) -> Iterator[Video]:
    """Every take twice: its seams spoiled and healed, and as they are without.

    None with timed prompts: between patches and cross-fades nothing would be left to compare with.
    """
    if settings.says == "timed":
        return
    spoiler = Spoiler(studio)
    for take in spoiler.takes(
        settings.spoiled, settings.prompts, settings.size, settings.seed, settings.says
    ):
        job = spoiler.job(take, settings.overlap, settings.steps)
        for by in (HEALED, UNHEALED):
            yield Video(
                by,
                take,
                take.frames,
                _hash(job.key, code, by),
                tuple(seam_jobs.seams_of(job.plan)),
                partial(spoiler.render, take, job, heal=by == HEALED),
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


def _measured(video: Video, made: Rendered, path: Path) -> Row:
    walls, frames = video.take.walls, made.frames[: video.take.known]
    row = Row(
        measure(made.frames),
        video.seams,
        track(frames) if walls is not None else np.full((len(frames), 2), np.nan),
        walls if walls is not None else np.full((2, 2), np.nan),
        made.halo_db,
        made.joins,
        video.fades,
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
