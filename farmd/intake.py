"""Turns a job's spec into a plan: inspects the media, chooses model, strategy and weights, and calls the planner.

The planner (scheduler.planning.plan) is pure: it reads no files and no database. This module does the reading. The
planner and this module refuse bad specs before anything is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from farm.artifacts import CHUNK, ArtifactStore
from farm.config import FarmConfig
from farm.media.clips import MediaError, MediaFacts, iter_frames, probe, resampled_count
from farm.media.picture import psnr
from farm.model_facts import ModelFacts, Placing
from farm.nearest import did_you_mean
from farm.outside_text import file_name, shown
from farm.plan import TaskKind
from farm.planning import Plan, PlanFailed, Strategy
from farm.plugins import Catalogue
from farm.records import KEPT_NO_LONGER
from farm.spec import Condition, InvalidSpec, JobSpec
from farm.store.errors import NotFound
from farm.store.store import Store
from farmd.contradictions import meetings
from farmd.presets import Presets
from scheduler.dispatch.snapshot import slots_of
from scheduler.placement.estimate import wall_seconds
from scheduler.placement.place import misfit
from scheduler.placement.values import ReadyTask, Slot
from scheduler.planning.conditions import PreparedMedia, check_apart, longest, source_of
from scheduler.planning.denoising import DEFAULT_GUIDANCE
from scheduler.planning.layout import CandidateDevice
from scheduler.planning.plan import make_plan, settled_options, strategy_of

_Offer = TypeVar("_Offer")

THUMBNAIL = 256
"""Pixels of the longer side at which given pictures are compared."""


@dataclass(frozen=True)
class PlannedJob:
    """The plan of a job, the devices that can do the job, the estimated time, and notes about the plan for people."""

    plan: Plan
    notes: tuple[str, ...]
    fitting_devices: tuple[str, ...]
    estimated_seconds: float | None
    media: tuple[str, ...]  #: artifact ids, in the order of the conditions


class Intake:
    """Plans jobs for this farm. It also holds the catalogue of the plugins, and the presets.

    Args:
        config: The farm's settings.
        catalogue: The models, strategies and output formats that plugins provide.
        store: The farm's store, which knows the nodes.
        files: The artifact store.
        look: `look(path, max_frames)` returns the facts of a media file. Use farm.media.clips.probe, or a function that
            does the same in a separate process.
        lacks: `lacks(node_id)` returns the names of the models that a node should offer but doesn't, each with the
            reason.

    Raises:
        InvalidConfig: A preset of farm.toml names something that no plugin has.
    """

    def __init__(
        self,
        config: FarmConfig,
        catalogue: Catalogue,
        store: Store,
        files: ArtifactStore,
        look: Callable[[Path, int], MediaFacts] = probe,
        lacks: Callable[[str], Mapping[str, str]] = lambda node_id: {},
    ):
        self._config, self._store, self._files = config, store, files
        self.catalogue, self.presets = catalogue, Presets(config.presets, catalogue)
        self._look, self._lacks = look, lacks

    def plan(self, spec: JobSpec, *, keep_media: bool) -> PlannedJob:
        """Return the plan of a job.

        Args:
            keep_media: Whether to copy the job's images and clips into the artifact store if they are given by path.

        Raises:
            InvalidSpec: The spec can't be planned. The error names the field and what is accepted.
            PlanFailed: The planner failed with another error. Usually, the job's strategy raised that error; strategies
                can come from plugins.
        """
        self._check_limits(spec)
        model = _choose("model", spec.model, self.catalogue.models)
        output = _choose("output", spec.output, self.catalogue.outputs)
        strategy = self._strategy(spec)
        weights = self._weights(model)
        sampler = _choose("sampler", spec.sampler or model.sampler, self.catalogue.samplers)
        guidance = _choose("guidance", spec.guidance or DEFAULT_GUIDANCE, self.catalogue.guidances)
        with _planning_with(strategy):
            options = settled_options(spec, model, strategy, sampler, guidance, self.catalogue.offers())
        media, notes = self._media(spec, model.placed(options.by_kind["model"]))
        slots = slots_of(self._store.nodes.list())
        storyboard = self._storyboard(spec, model)
        with _planning_with(strategy):
            plan = make_plan(
                spec,
                model=model,
                weights=weights,
                strategy=strategy,
                output=output,
                media=[m for m, _ in media],
                candidates=candidates_of(slots, model, weights),
                storyboard=storyboard,
                sampler=sampler,
                guidance=guidance,
                offers=self.catalogue.offers(),
            )
        if keep_media:
            for prepared, path in media:
                if path is not None:
                    self._keep(prepared.artifact_id, path)
        fitting = _fitting(plan, slots)
        return PlannedJob(
            plan=plan,
            notes=(*self.presets.notes(spec), *plan.notes, *notes, *self._advice(spec, model, plan)),
            fitting_devices=tuple(slot.name for slot in fitting),
            estimated_seconds=wall_seconds(plan.tasks, plan.model, [s for s in fitting if s.usable]),
            media=tuple(prepared.artifact_id for prepared, _ in media),
        )

    def _check_limits(self, spec: JobSpec) -> None:
        limits = self._config.limits
        for field in ("width", "height"):
            if getattr(spec, field) > limits.max_side:
                raise InvalidSpec(
                    field, f"must be at most {limits.max_side} on this farm, got {getattr(spec, field)}"
                )
        if spec.frames > limits.max_frames:
            raise InvalidSpec(
                "frames", f"must be at most {limits.max_frames} on this farm, got {spec.frames}"
            )

    def _strategy(self, spec: JobSpec) -> Strategy:
        return _choose("strategy", strategy_of(spec), self.catalogue.strategies)

    def _storyboard(self, spec: JobSpec, model: ModelFacts) -> tuple[ModelFacts, str] | None:
        """Return the model that draws the storyboard, and its weights; None if it is the job's own model."""
        if spec.storyboard_model in ("", model.name):
            return None
        drawer = _choose("storyboard_model", spec.storyboard_model, self.catalogue.models)
        return drawer, self._weights(drawer, "storyboard_model")

    def _advice(self, spec: JobSpec, model: ModelFacts, plan: Plan) -> list[str]:
        """Return advice on what would make the job faster. It would change the result, so only the person may choose it."""
        drawing = sum(task.flops for task in plan.tasks if task.kind is TaskKind.STORYBOARD)
        smaller = model.storyboard_model
        if spec.storyboard_model or not drawing or not smaller or not self._store.nodes.weights_of(smaller):
            return []
        share = drawing / sum(task.flops for task in plan.tasks)
        faster = f"storyboard_model={smaller} would make the drawing much faster"
        return [
            (
                f"storyboard: drawing the storyboard is {share:.0%} of the job's work, and the job's other "
                f"tasks wait for the storyboard; {faster}"
            )
        ]

    def _weights(self, model: ModelFacts, field: str = "model") -> str:
        pinned = self._config.models.get(model.name)
        if pinned and pinned.weights:
            return pinned.weights
        offered = self._store.nodes.weights_of(model.name)
        if not offered:
            told = ((node.name, self._lacks(node.id)) for node in self._store.nodes.list())
            known = [
                f"{node}: {why}" for node, lacks in told if (why := lacks.get(model.name) or lacks.get(""))
            ]
            because = f" ({'; '.join(known)})" if known else ""
            raise InvalidSpec(
                field,
                f"no node has offered the model {model.name} yet{because}; "
                f"start a node that has the model, or set `weights` in the section [models.{model.name}] of farm.toml",
            )
        # Where nodes differ, the weights most of them have; the others are told why they get no work.
        return min(offered, key=lambda weights: (-offered[weights], weights))

    def _media(
        self, spec: JobSpec, placing: Placing
    ) -> tuple[list[tuple[PreparedMedia, Path | None]], list[str]]:
        prepared, notes, kinds = [], [], []
        for index, condition in enumerate(spec.conditions):
            field = f"conditions.{index}.media"
            artifact_id, path = self._find(condition, field)
            with self._reading(field, artifact_id, path) as readable:
                facts = self._look(readable, self._config.limits.max_frames)
            kinds.append("clip" if facts.kind == "video" else "image")
            which = f"{kinds[-1]} {index + 1}" if len(spec.conditions) > 1 else kinds[-1]
            most = longest(condition.strength, spec.frames, placing) if not condition.frame else spec.frames
            frames, said = _frames_of(facts, spec, field, which, most)
            notes += said
            prepared.append((PreparedMedia(artifact_id, condition.frame, frames, condition.strength), path))
        return prepared, [*notes, *self._contradictions(spec, prepared, kinds, placing)]

    def _contradictions(
        self,
        spec: JobSpec,
        prepared: Sequence[tuple[PreparedMedia, Path | None]],
        kinds: Sequence[str],
        placing: Placing,
    ) -> list[str]:
        """Return notes on media that contradict each other. Reads each file that could contradict another one once more."""
        media = [piece for piece, _ in prepared]
        check_apart(media, spec.frames, placing)
        found = meetings(media, source_of(media, spec.frames, placing))
        wanted = {place for meeting in found for place in meeting.places(media)}
        pictures: dict[tuple[int, int], np.ndarray] = {}
        for index in sorted({index for index, _ in wanted}):
            numbers = {number for at, number in wanted if at == index}
            piece, path = prepared[index]
            with self._reading(f"conditions.{index}.media", piece.artifact_id, path) as readable:
                seen = iter_frames(readable, *_thumbnail(spec), spec.frame_rate)
                for number, picture in enumerate(islice(seen, max(numbers) + 1)):
                    if number in numbers:
                        pictures[index, number] = picture
        notes = []
        for meeting in found:
            one, other = meeting.places(media)
            note = meeting.note(kinds, psnr(pictures[one], pictures[other]))
            notes += [note] if note else []
        return notes

    @contextmanager
    def _reading(self, field: str, artifact_id: str, path: Path | None) -> Iterator[Path]:
        """Yield a local file with the media. Raises InvalidSpec for the spec's `field` if the file can't be had."""
        with self._readable(artifact_id, path) as readable:
            try:
                yield readable
            except MediaError as error:
                problem = str(error)
                if path is None:
                    # Where it lies in the store says nothing to whoever uploaded it.
                    called = self._store.artifacts.get(artifact_id).filename
                    problem = problem.replace(str(readable), called)
                raise InvalidSpec(field, problem) from None

    def _readable(self, artifact_id: str, path: Path | None) -> AbstractContextManager[Path]:
        if path is not None:
            return nullcontext(path)
        return self._files.local(self._store.artifacts.get(artifact_id).location)

    def _find(self, condition: Condition, field: str) -> tuple[str, Path | None]:
        """Return the id of the media's artifact, and the path to copy it from if it isn't stored yet."""
        media = condition.media
        if media.artifact_id:
            try:
                artifact = self._store.artifacts.get(media.artifact_id)
            except NotFound:
                raise InvalidSpec(
                    f"{field}.artifact_id",
                    f"the farm has no artifact {shown(media.artifact_id)!r}; upload the file first",
                ) from None
            if artifact.state in KEPT_NO_LONGER:
                raise InvalidSpec(
                    f"{field}.artifact_id",
                    f"the farm no longer keeps the file {artifact.filename} (see keep.days in farm.toml); "
                    "upload the file again",
                )
            return artifact.id, None
        if not Path(media.path).is_absolute():
            # The daemon's folder is not the caller's.
            raise InvalidSpec(
                f"{field}.path", f"must be an absolute path on the daemon's host, got {media.path!r}"
            )
        path = Path(media.path).resolve()
        roots = [Path(root).expanduser().resolve() for root in self._config.media.roots]
        if not any(path.is_relative_to(root) for root in roots):
            allowed = ", ".join(map(str, roots)) or "none; set media.roots in farm.toml, or upload the file"
            raise InvalidSpec(
                f"{field}.path",
                f"must lie in one of the folders in media.roots ({allowed}), got {media.path!r}",
            )
        return self._store.artifacts.new_id(), path

    def _keep(self, artifact_id: str, path: Path) -> None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            writing = self._files.begin(self._files.location_for(artifact_id))
            try:
                while chunk := file.read(CHUNK):
                    writing.write(chunk)
                writing.commit(sha256)
                self._store.artifacts.stage(
                    name="media",
                    filename=file_name(path.name),
                    size=writing.size,
                    sha256=sha256,
                    location=writing.location,
                    artifact_id=artifact_id,
                )
            except BaseException:
                writing.abort()
                raise
            writing.recorded()


def unknown_pins(pinned: Iterable[str], known: Collection[str]) -> list[str]:
    """Return a warning for each model in farm.toml that no plugin knows. Such a name is probably mistyped.

    `pinned`: the names of the models whose weights farm.toml sets. `known`: the names of the models that plugins know.
    """
    return [
        f"farm.toml: models.{name} pins the weights of a model that no plugin knows{did_you_mean(name, known)}"
        for name in pinned
        if name not in known
    ]


def candidates_of(slots: Sequence[Slot], model: ModelFacts, weights: str) -> list[CandidateDevice]:
    """Return the devices that could render now with this model and weights.

    The planner can fit the lengths of a job's windows to these devices.
    """
    fp8 = model.precisions[0] == "fp8"
    probe = _probe(model.name, weights, 0, fp8)
    found = [slot for slot in slots if slot.usable and misfit(probe, slot) is None]
    # As placement has it: what no probe knows is taken for as slow as the slowest that is known.
    unknown = min((rate for slot in found if (rate := slot.rate(model.name)) > 0), default=1e12)
    return [
        CandidateDevice(slot.name, slot.rate(model.name) or unknown, slot.vram_bytes, slot.local)
        for slot in found
    ]


def _choose(field: str, name: str, offers: Mapping[str, _Offer]) -> _Offer:
    if name not in offers:
        raise InvalidSpec(
            field,
            f"must be one of {', '.join(sorted(offers)) or '(none installed)'}, got {name!r}"
            f"{did_you_mean(name, offers)}",
        )
    return offers[name]


@contextmanager
def _planning_with(strategy: Strategy) -> Iterator[None]:
    """Raise PlanFailed for every error but InvalidSpec. The error is likely the strategy's, which may be a plugin's."""
    try:
        yield
    except InvalidSpec:
        raise
    except Exception as error:
        raise PlanFailed(strategy.name, error) from error


def _thumbnail(spec: JobSpec) -> tuple[int, int]:
    """Return a width and height in pixels, of the job's proportions, that is just large enough to compare pictures."""
    shrunk = max(1.0, max(spec.width, spec.height) / THUMBNAIL)
    return max(1, round(spec.width / shrunk)), max(1, round(spec.height / shrunk))


def _frames_of(facts: MediaFacts, spec: JobSpec, field: str, which: str, most: int) -> tuple[int, list[str]]:
    """Return the number of frames of the media at the job's rate, which may have `most`, and notes for people."""
    notes = []
    rate = spec.frame_rate
    count = resampled_count(facts, rate)
    if facts.kind == "video" and (facts.variable_frame_rate or facts.fps != rate):
        given = "a variable frame rate" if facts.variable_frame_rate else f"{float(facts.fps):g} fps"
        notes.append(
            f"{which}: the farm resamples the clip's {facts.frames} frames at {given} "
            f"to {count} frames at {float(rate):g} fps"
        )
    if facts.has_audio:
        notes.append(f"{which}: the farm drops the clip's sound")
    notes += [f"{which}: {ignored}" for ignored in facts.ignored]
    if count > most:
        raise InvalidSpec(
            field,
            f"the clip has {count} frames at {float(rate):g} fps, but the video has only {spec.frames} frames; "
            f"ask for at least {count} frames, or give a shorter clip",
        )
    if (facts.width, facts.height) != (spec.width, spec.height):
        notes.append(
            f"{which}: the farm scales the picture from {facts.width}x{facts.height} "
            f"to cover {spec.width}x{spec.height}, then crops the edges"
        )
    return count, notes


def _fitting(plan: Plan, slots: Sequence[Slot]) -> list[Slot]:
    largest = max(
        (task for task in plan.tasks if task.model in ("", plan.model)), key=lambda task: task.vram_bytes
    )
    probe = _probe(plan.model, plan.weights, largest.vram_bytes, any(task.fp8 for task in plan.tasks))
    return [slot for slot in slots if misfit(probe, slot) is None]


def _probe(model: str, weights: str, vram_bytes: int, fp8: bool) -> ReadyTask:
    """Return a made-up task, with which placement can be asked whether a device fits."""
    return ReadyTask(
        task_id="", job_id="", key="", priority=0, created_at=0, order=0, model=model, weights=weights,
        vram_bytes=vram_bytes, fp8=fp8,
    )  # fmt: skip
