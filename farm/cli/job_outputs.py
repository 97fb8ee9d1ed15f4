"""farmctl job outputs: list or download a job's video, or the decoded frames of a job that hasn't succeeded."""

from __future__ import annotations

import json
from pathlib import Path

import click

from farm.cli.follow import transfer_bar
from farm.cli.printing import connect, format_option, job_state, note, print_json, print_table, say, size
from farm.client.delivery import where_decoded
from farm.v1 import jobs_pb2


@click.command()
@click.argument("job_id", metavar="ID")
@click.option(
    "--partial",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Download the decoded frames of a job that hasn't succeeded. Each unbroken run of frames becomes one video.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that already exist in FOLDER.")
@format_option
@click.pass_context
def outputs(ctx: click.Context, job_id: str, folder: Path | None, overwrite: bool, form: str) -> None:
    """Show what a job has delivered: its video, or the segments that are already decoded.

    A running, paused, failed or cancelled job has no video yet, but --partial downloads its decoded frames.
    Each downloaded video is named after the frames that it contains. A JSON file beside each video describes
    that video and, for a failed job, says why the job failed. `farmctl job download` downloads the video of a
    finished job.

    \b
    Examples:
      farmctl job outputs j-06b2b
      farmctl job outputs j-06b2b --partial rescued/
    """
    client = connect(ctx, patience=60.0 if folder else 3.0)
    if folder:
        with transfer_bar("download") as moved:
            files = client.download_partial(job_id, folder, overwrite, moved)
        if form == "json":
            return click.echo(json.dumps({"files": [str(file) for file in files]}, indent=2))
        for file in files:
            say(f"{file} ({size(file.stat().st_size)})")
        return
    answer = client.outputs(job_id)
    if form == "json":
        return print_json(answer)
    job = answer.job
    if job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        decoded = sum(one.stop - one.start for one in answer.outputs)
        click.echo(f"job {job.id} is {job_state(job)}; {decoded} of its {job.spec.frames} frames are decoded")
    print_table(
        ("OUTPUT", "FIRST FRAME", "LAST FRAME", "FRAMES", "SIZE", "TASK"),
        (
            (
                one.artifact.name,
                *((one.start, one.stop - 1, one.stop - one.start) if one.stop else ("-", "-", "-")),
                size(one.artifact.size),
                one.task,
            )
            for one in answer.outputs
        ),
        "the job has delivered nothing yet",
        keep=("OUTPUT", "TASK"),
    )
    if answer.outputs and job.state != jobs_pb2.JOB_STATE_SUCCEEDED:
        note(where_decoded(job))
