"""Downloads the results of a job: its video or, if the job hasn't succeeded, its decoded segments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from farm.backoff import Patience
from farm.client.errors import BROKEN, Damaged, FarmError, translate
from farm.client.transfer import Partial, check_output, put_in_place
from farm.durable import scratch
from farm.filenames import is_id
from farm.policy.gist import failure
from farm.spec import frame_rate
from farm.v1 import artifacts_pb2, jobs_pb2
from farm.v1.artifacts_pb2_grpc import ArtifactServiceStub
from farm.wire.channels import request_metadata
from farm.wire.enum_words import word_of

if TYPE_CHECKING:
    from farm.rendering import Joining

SEGMENT = "segment"
"""The name of the artifacts that hold decoded frames."""


class Downloads:
    """Downloads of artifacts and decoded segments from a farm. A download that breaks off is resumed.

    Args:
        artifacts: The farm's artifact service.
        server: The farm's address, as host:port, for errors.
        patience: Seconds for which a download is tried again while no more bytes arrive.
    """

    def __init__(self, artifacts: ArtifactServiceStub, server: str, patience: float) -> None:
        self._artifacts, self._server, self._patience = artifacts, server, patience

    def fetch(
        self,
        artifact_id: str,
        size: int,
        path: Path,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Path:
        """Download an artifact to the file `path`, and return `path`.

        The file appears only when the download is complete and its content has been checked.

        Args:
            artifact_id: The artifact's id.
            size: The artifact's size in bytes.
            path: The file to write.
            overwrite: Replace the file if it exists.
            progress: Called with the number of bytes downloaded so far and the total number.

        Raises:
            FarmError: The download fails, or the file exists or can't be written.
        """
        with Partial(path, artifact_id, size) as partial:
            patience, metadata = Patience(self._patience), request_metadata()
            while True:
                before = partial.size
                request = artifacts_pb2.DownloadRequest(artifact_id=artifact_id, offset=before)
                stream = self._artifacts.Download(request, metadata=metadata)
                try:
                    partial.receive(stream, progress)
                    partial.promote(overwrite)
                    return path
                except grpc.RpcError as error:
                    if partial.size > before:
                        patience.reset()
                    if error.code() not in BROKEN or not patience.another_try():
                        raise translate(error, self._server) from None
                finally:
                    stream.cancel()

    def partial(
        self,
        answer: jobs_pb2.ListOutputsResponse,
        folder: Path,
        overwrite: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Path]:
        """Download the decoded segments of an unfinished job, and join them to videos.

        Each unbroken run of segments becomes one video. A JSON file beside the video says which frames it contains.

        Args:
            answer: The farm's list of the job's segments, and the job.
            folder: The folder to write to.
            overwrite: Replace files that exist.
            progress: Called with the number of bytes downloaded so far and the total number.

        Returns:
            The videos, in the order of their frames.

        Raises:
            InvalidSpec: A file exists or can't be written (field "output").
            FarmError: No segment is decoded yet, or the job has succeeded.
            Damaged: The farm has lost some segments. All other frames are downloaded.
        """
        job = answer.job
        segments = [one for one in answer.outputs if one.artifact.name == SEGMENT]
        if job.state == jobs_pb2.JOB_STATE_SUCCEEDED:
            raise FarmError(
                f"job {job.id} has succeeded, so download its whole video with `farmctl job download {job.id} -o FILE`"
            )
        if not segments:
            raise FarmError(f"no frame of job {job.id} is decoded yet: the job {how_it_stands(job)}")
        if not is_id(job.id):
            raise FarmError(
                f"the server sent the job id {job.id!r}, which is not a valid id; check that the server is an LTX-farm"
            )
        joining, suffix = _joining(job.spec.output)
        for run in runs(segments):
            for path in _names(folder, job, run, suffix):
                check_output(path, overwrite)
        made = []
        # In the same folder, so that a complete file can be renamed at once. It is removed however this ends.
        with scratch(folder, job.id) as work:
            parts, damaged = self._segments(segments, work, suffix, progress)
            for run in runs([one for one in segments if one.start in parts]):
                video, about = _names(folder, job, run, suffix)
                joined = work / video.name
                _join(joining, [parts[one.start] for one in run], joined, job, run)
                # The JSON first: no partial video may lie there without it.
                put_in_place(joined.with_suffix(".json"), about, overwrite)
                put_in_place(joined, video, overwrite)
                made.append(video)
        if damaged:
            rest = (
                f"the other decoded frames are in {', '.join(map(str, made))}"
                if made
                else "nothing else is decoded"
            )
            raise Damaged(
                f"job {job.id}: these segments are damaged and not in the download: {'; '.join(damaged)}; {rest}"
            )
        return made

    def _segments(
        self,
        segments: Sequence[jobs_pb2.Output],
        folder: Path,
        suffix: str,
        progress: Callable[[int, int], None] | None,
    ) -> tuple[dict[int, Path], list[str]]:
        """Download segments to `folder`. Return the files by first frame, and a text for each damaged segment."""
        whole, before = sum(one.artifact.size for one in segments), 0

        def tell(done: int, _: int) -> None:
            if progress:
                progress(before + done, whole)

        parts, damaged = {}, []
        for one in segments:
            path = folder / f"segment-{one.start}{suffix}"
            try:
                parts[one.start] = self.fetch(one.artifact.id, one.artifact.size, path, progress=tell)
            except Damaged as error:
                damaged.append(f"frames {one.start} to {one.stop - 1} ({one.task}: {error})")
            before += one.artifact.size
        return parts, damaged


def runs(segments: Sequence[jobs_pb2.Output]) -> list[list[jobs_pb2.Output]]:
    """Group segments into unbroken runs: in a run, each segment begins at the frame where the one before it ends.

    Args:
        segments: The segments, in the order of their frames.
    """
    found: list[list[jobs_pb2.Output]] = []
    for segment in segments:
        if found and found[-1][-1].stop == segment.start:
            found[-1].append(segment)
        else:
            found.append([segment])
    return found


def how_it_stands(job: jobs_pb2.Job) -> str:
    """Return a job's state and error as the end of a sentence that begins with "the job", such as "is running"."""
    return f"is {word_of(jobs_pb2.JobState, job.state)}" + (
        f": {failure(job.error, job.id)}" if job.error else ""
    )


def where_decoded(job: jobs_pb2.Job) -> str:
    """Return a sentence that names the command to download a job's decoded frames; "" if no frame is decoded."""
    if not any(stage.succeeded for stage in job.stages if stage.kind == "decode"):
        return ""
    return f"download the frames that are decoded with `farmctl job outputs {job.id} --partial FOLDER`"


def _names(folder: Path, job: jobs_pb2.Job, run: Sequence[jobs_pb2.Output], suffix: str) -> tuple[Path, Path]:
    """Return the paths of a run's video and of the JSON about it."""
    digits = len(str(job.spec.frames - 1))
    first, last = f"{run[0].start:0{digits}}", f"{run[-1].stop - 1:0{digits}}"
    name = f"{job.id}-frames-{first}-{last}-partial"
    return folder / f"{name}{suffix}", folder / f"{name}.json"


def ending_here(output: str) -> str:
    """Return the filename extension of the output format named `output`, such as ".mp4".

    A plugin on this machine knows the extension, so no farm is asked.
    """
    from farm.plugins import catalogue, planning_plugins

    return catalogue(planning_plugins()).outputs[output].suffix


def _joining(output: str) -> tuple[Joining, str]:
    """Return the plugin that joins segments of a format, and the ending that this plugin gives its files.

    The ending is never taken from the farm, because it becomes part of a file's name here.
    """
    # Most callers join nothing, and start sooner without plugins.
    from farm.plugins import catalogue, planning_plugins

    plugins = planning_plugins()
    joining, facts = plugins.hook.farm_open_joining(output=output), catalogue(plugins).outputs.get(output)
    if joining is None or facts is None:
        raise FarmError(
            f"no plugin on this machine joins segments of the format {output!r}; install ltx-farm here"
        )
    return joining, facts.suffix


def _join(
    joining: Joining, parts: list[Path], path: Path, job: jobs_pb2.Job, run: Sequence[jobs_pb2.Output]
) -> None:
    start, stop = run[0].start, run[-1].stop
    facts = {
        "partial": True,
        "job": job.id,
        "name": job.spec.name,
        "state": word_of(jobs_pb2.JobState, job.state),
        "error": failure(job.error, job.id) if job.error else "",
        "first_frame": start,
        "last_frame": stop - 1,
        "frames": stop - start,
        "of_frames": job.spec.frames,
    }
    if job.notes:
        facts["notes"] = list(job.notes)
    try:
        joining.join_segments(parts, path, frames=stop - start, fps=frame_rate(job.spec.fps), sidecar=facts)
    except Exception as error:
        raise FarmError(f"frames {start} to {stop - 1} of job {job.id} can't be joined: {error}") from error
