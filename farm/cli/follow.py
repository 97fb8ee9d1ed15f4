"""Follows a job to its end. Shows progress bars on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from farm.cli.bars import StageBars
from farm.cli.printing import console, duration, how_it_ended, job_state, note, print_json, say, size
from farm.client import ENDED, FarmClient, FarmError
from farm.client.delivery import where_decoded
from farm.policy.gist import gist
from farm.v1 import jobs_pb2

# A daemon may be restarted, or its machine rebooted, while somebody watches.
AWAY_SECONDS = 600.0

_TROUBLE = ("failed", "lost")
_Show = Callable[[jobs_pb2.Job], None]
_Tell = Callable[[str], None]
_Away = Callable[[FarmError], None]


def follow(client: FarmClient, job_id: str, output: Path | None, json: bool = False) -> jobs_pb2.Job:
    """Show a job's progress until the job has ended, and return the job.

    Notes of the job's tasks (sentences about what a task found) are shown too. Ctrl-C leaves the job running, prints
    a command to follow the job again, and exits with 130.

    Args:
        client: A client of the farm.
        job_id: The job.
        output: A file name for the `-o` option of the printed command. This function doesn't write the file.
        json: Print each update as a line of JSON. Bars and notes are then not shown.
    """
    client.patience = AWAY_SECONDS
    latest = None
    try:
        with _shown(json) as (show, tell, away):
            for update in client.watch(job_id, away=away):
                if json:
                    print_json(_as_response(update), indent=None)
                if isinstance(update, jobs_pb2.Job):
                    # `submit` has already printed the notes that the job begins with.
                    found = [text for text in update.notes if latest and text not in latest.notes]
                    for text in found if not json else ():
                        tell(f"note: {text}")
                    latest = update
                    show(update)
                elif update.kind in _TROUBLE and not json:
                    tell(gist(update.message))
    except KeyboardInterrupt:
        if latest is None or latest.state not in ENDED:
            _tell_of_return(latest.id if latest else job_id, output)
        click.get_current_context().exit(130)
    assert latest is not None  # watch ends only after the job has
    return latest


@contextlib.contextmanager
def submitting(dry_run: bool = False) -> Iterator[None]:
    """Tell the user how to check whether a job exists if Ctrl-C interrupts its submission."""
    try:
        yield
    except KeyboardInterrupt:
        if not dry_run:
            note("the farm may have taken the job already; `farmctl job list` shows the newest jobs")
        raise


@contextlib.contextmanager
def submitted(job_id: str, output: Path | None) -> Iterator[None]:
    """Let Ctrl-C leave a job running, print a command to follow the job, and exit with 130.

    `output`: a file name for the `-o` option of the printed command.
    """
    try:
        yield
    except KeyboardInterrupt:
        _tell_of_return(job_id, output)
        click.get_current_context().exit(130)


def _tell_of_return(job_id: str, output: Path | None) -> None:
    job = shlex.quote(job_id)
    again = f"farmctl job watch {job}" + (f" -o {shlex.quote(str(output))}" if output else "")
    note(f"job {job} continues; follow it again with `{again}`, or cancel it with `farmctl job cancel {job}`")


def finish(
    client: FarmClient, job: jobs_pb2.Job, output: Path | None, overwrite: bool, quiet: bool = False
) -> None:
    """Print how a job ended, and download its video to `output`. Exits with 1 if the job hasn't succeeded.

    `quiet`: print nothing about a job that succeeded.
    """
    if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        note(f"job {job.id} {job_state(job)}" + (f": {how_it_ended(job)}" if job.error else ""))
        if decoded := where_decoded(job):
            note(decoded)
        click.get_current_context().exit(1)
    if not quiet:
        took = f" in {duration(job.finished_at - job.created_at)}" if job.HasField("finished_at") else ""
        click.echo(f"job {job.id} succeeded{took}")
    if output is None:
        note(f"download the video with `farmctl job download {job.id} -o FILE`")
    else:
        fetch(client, job.id, output, overwrite, quiet)


def fetch(client: FarmClient, job_id: str, output: Path, overwrite: bool, quiet: bool = False) -> None:
    """Download a job's video to `output`. Print the file's name and size, unless `quiet` is true."""
    try:
        with transfer_bar("download") as moved:
            client.download(job_id, output, overwrite, moved)
    except KeyboardInterrupt:
        note(
            f"the download was interrupted; continue it with `farmctl job download {shlex.quote(job_id)} "
            f"-o {shlex.quote(str(output))}`"
        )
        raise
    if not quiet:
        say(f"{output} ({size(output.stat().st_size)})")


@contextlib.contextmanager
def transfer_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar for a transfer.

    Yields a function. Call it with two numbers: the bytes moved so far, and the total bytes.
    """
    if not sys.stderr.isatty():
        yield lambda moved, whole: None
        return
    columns = (TextColumn(f"{what:<10}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda moved, whole: progress.update(bar, completed=moved, total=whole)


@contextlib.contextmanager
def _shown(json: bool) -> Iterator[tuple[_Show, _Tell, _Away]]:
    """Yield three functions: show the job, print a permanent line, and say that the farm can't be reached."""
    if json or not sys.stdout.isatty():
        yield (lambda job: None) if json else _lines(), note, _noted()
        return
    with StageBars(console()) as bars:
        yield (
            lambda job: bars.show(job, told(job)),
            bars.tell,
            lambda error: bars.say([f"waiting: {error}"]),
        )


def _noted() -> _Away:
    last = ""

    def away(error: FarmError) -> None:
        nonlocal last
        if str(error) != last:
            last = str(error)
            note(
                f"trying again for up to {duration(AWAY_SECONDS)}, because the farm does not answer: {error}"
            )

    return away


def _lines() -> _Show:
    done: dict[str, int] = {}
    state, waiting = "", ""
    loaded: set[str] = set()

    def show(job: jobs_pb2.Job) -> None:
        nonlocal state, waiting
        if job_state(job) != state and job.state not in ENDED:
            state = job_state(job)
            click.echo(f"job {job.id} {state}")
        for stage in job.stages:
            if done.get(stage.kind, 0) != stage.succeeded:
                done[stage.kind] = stage.succeeded
                click.echo(f"{stage.kind} {stage.succeeded}/{stage.total}")
        if job.waiting and job.waiting != waiting:
            say(f"waiting: {job.waiting}")
        elif waiting and any(stage.running for stage in job.stages):
            click.echo(f"job {job.id} goes on")
        if job.waiting or any(stage.running for stage in job.stages):
            waiting = job.waiting
        # A device loads a model part by part; a log needs one line for the model, not one for each part.
        for line in loading(job):
            if line not in loaded:
                loaded.add(line)
                say(line)

    return show


def told(job: jobs_pb2.Job) -> list[str]:
    """Return the lines to show below a job's bars: what the job waits for, and which models devices are loading."""
    return ([f"waiting: {job.waiting}"] if job.waiting else []) + loading(job)


def loading(job: jobs_pb2.Job) -> list[str]:
    """Return a line for each model that a device is loading for the job at this moment."""
    found = {(one.model, one.device) for stage in job.stages for one in stage.loading}
    return [f"loading {model} on {device}" for model, device in sorted(found)]


def _as_response(update: jobs_pb2.JobEvent | jobs_pb2.Job) -> jobs_pb2.WatchJobResponse:
    if isinstance(update, jobs_pb2.Job):
        return jobs_pb2.WatchJobResponse(job=update)
    return jobs_pb2.WatchJobResponse(event=update)
