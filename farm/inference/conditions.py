"""Prepares the images and clips of a call of `inference.py`, and turns them into the job's conditions.

`farmctl inference` sends the conditions that `prepare_conditions` returns. Tests compare the latents that the farm
makes from the same conditions with the latents that Lightricks' code makes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from farm.client.local_media import LocalCondition
from farm.inference.arguments import InferenceConfig
from farm.inference.mapping import SOURCE_STRENGTH, InferenceJob
from farm.inference.media import fitting_frames, prepare
from farm.media.clips import MediaError, probe
from farm.spec import InvalidSpec
from farm.timeline import frames_of, latents_for


def prepare_conditions(
    job: InferenceJob, asked: InferenceConfig, folder: Path, tell: Callable[[str], object] = lambda text: None
) -> tuple[list[LocalCondition], list[str]]:
    """Prepare a call's images and clips as `inference.py` does. Return them as conditions, with notes for the user.

    Args:
        job: The job for the call.
        asked: The arguments of the call.
        folder: The folder for the prepared files.
        tell: Called with a text before each file, because a clip takes a while.

    Raises:
        InvalidSpec: A file can't be read, its pictures are too small, or the clip of `input_media_path` is too short.
    """
    found: list[LocalCondition] = []
    notes: list[str] = []

    def take(path: str, field: str, frame: int, strength: float, *, whole: bool) -> None:
        tell(f"preparing {path}")
        try:
            facts = probe(path, as_stored=True)
        except MediaError as error:
            raise InvalidSpec(field, str(error)) from None
        needed = frames_of(latents_for(asked.num_frames))
        most = needed if whole else fitting_frames(facts.frames, frame, asked.num_frames)
        size = asked.width, asked.height
        made = prepare(
            path, facts, folder, size=size, fps=asked.frame_rate, frames=most, resize=whole, field=field
        )
        if whole and made.frames < asked.num_frames:
            raise InvalidSpec(
                field,
                f"the video needs {asked.num_frames} frames, but the clip has only {made.frames}; "
                "ask for a shorter video with --num_frames",
            )
        found.append(LocalCondition(made.path, frame, strength))
        if made.cut:
            notes.append(
                f"{path}: the video uses only the first {made.frames} of this clip's {made.frames + made.cut} frames"
            )

    if job.made_over is not None:
        take(job.made_over, "input_media_path", 0, SOURCE_STRENGTH, whole=True)
    for one in job.media:
        take(one.path, "conditioning_media_paths", one.frame, one.strength, whole=False)
    return found, notes
