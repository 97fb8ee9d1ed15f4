"""farmctl task: look at the tasks of a job and their attempts, read their logs, run them again."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable

import click

from farm.cli.follow import AWAY_SECONDS
from farm.cli.job import attempt_seconds, print_tasks, put_back
from farm.cli.params import Choice
from farm.cli.printing import (
    connect,
    declared_devices,
    format_option,
    marker,
    note,
    print_json,
    print_table,
    say,
    when,
)
from farm.outside_text import shown_lines
from farm.policy.gist import gist
from farm.v1 import jobs_pb2, tasks_pb2
from farm.wire.enum_words import value_of, word_of, words


@click.group()
def task() -> None:
    """Show the tasks of a job, read their logs, and run them again.

    JOB is a job's id, the first 6 or more characters of the id, or the job's name if no other job has that name. TASK is
    the task's key, as `farmctl job show` prints it.

    \b
    Example:
      farmctl task logs j-06b2b/window/3
    """


@task.command("list")
@click.argument("job_id", metavar="JOB")
@click.option(
    "--state",
    "states",
    type=Choice(words(jobs_pb2.TaskState)),
    multiple=True,
    help="Show only tasks in this state. Repeatable.",
)
@format_option
@click.pass_context
def list_tasks(ctx: click.Context, job_id: str, states: tuple[str, ...], form: str) -> None:
    """Show the tasks of a job. Each task comes after the tasks that it needs.

    \b
    Examples:
      farmctl task list j-06b2b
      farmctl task list j-06b2b --state failed -o json | jq -r '.tasks[].key'
    """
    client = connect(ctx)
    wanted = [value_of(jobs_pb2.TaskState, name) for name in states]
    found = client.tasks(job_id, wanted)
    if form == "json":
        return print_json(tasks_pb2.ListTasksResponse(tasks=found))
    nothing = "no tasks" + (f" that are {' or '.join(states)}" if states else "")
    print_tasks(found, marker(declared_devices(client.nodes())), nothing)


@task.command()
@click.argument("name", metavar="JOB/TASK")
@format_option
@click.pass_context
def show(ctx: click.Context, name: str, form: str) -> None:
    """Show one task and its attempts: where each attempt ran, its progress, and how it ended.

    \b
    Example:
      farmctl task show j-06b2b/window/3
    """
    client = connect(ctx)
    found = client.task(name)
    if form == "json":
        return print_json(tasks_pb2.GetTaskResponse(task=found))
    lines = {
        "task": f"{found.job_id}/{found.key}",
        "id": found.id,
        "state": word_of(jobs_pb2.TaskState, found.state),
        "reason": gist(found.reason, otherwise=""),
        "latents": f"{found.start}-{found.stop}" if found.stop else "",
    }
    if any(attempt.error for attempt in found.attempts):
        lines["log"] = f"`farmctl task logs {found.job_id}/{found.key}`"
    if "summary" in found.facts:
        lines["found"] = str(found.facts["summary"])
    for key, value in lines.items():
        if value:
            say(f"{key + ':':<11}{value}")
    click.echo()
    mark = marker(declared_devices(client.nodes()))
    print_table(
        ("EPOCH", "STATE", "NODE/DEVICE", "GIVEN AT", "SECONDS", "STEPS", "LOG", "ERROR"),
        (
            (
                attempt.epoch,
                word_of(jobs_pb2.AttemptState, attempt.state),
                mark(f"{attempt.node}/{attempt.device}"),
                when(attempt.dispatched_at),
                attempt_seconds(attempt),
                f"{attempt.step}/{attempt.steps}" if attempt.steps else "-",
                "kept" if attempt.log_artifact_id else "-",
                gist(attempt.error, otherwise=""),
            )
            for attempt in found.attempts
        ),
        "the task has not been given to a device yet",
        keep=("EPOCH", "STATE", "NODE/DEVICE"),
        free=("ERROR",),
    )


@task.command()
@click.argument("name", metavar="JOB/TASK")
@click.option("-f", "--follow", is_flag=True, help="Keep printing new lines until the attempt has ended.")
@click.option(
    "--epoch",
    type=click.IntRange(1, 2**31 - 1),
    help="Print the log of the attempt that has this number in the column EPOCH of `farmctl task show`. "
    "Default: the newest attempt.",
)
@click.pass_context
def logs(ctx: click.Context, name: str, follow: bool, epoch: int | None) -> None:
    """Print the log of an attempt at a task: everything that the renderer logged or printed during the attempt.

    The farm keeps the log of every attempt, even if the attempt's renderer was killed. If a log is very long, the farm
    keeps only the beginning and the end of the log.

    \b
    Examples:
      farmctl task logs j-06b2b/window/3
      farmctl task logs -f j-06b2b/window/3
      farmctl task logs j-06b2b/window/3 --epoch 1
    """
    client = connect(ctx, AWAY_SECONDS if follow else 3.0)
    out = _for_a_terminal() if sys.stdout.isatty() else _as_it_is
    written = False
    for part in client.log(name, epoch, follow):
        if isinstance(part, jobs_pb2.Attempt):
            word = word_of(jobs_pb2.AttemptState, part.state)
            note(f"log of the attempt with epoch {part.epoch} on {part.node}/{part.device} ({word})")
        else:
            out(part)
            written = True
    if not written:
        note(
            "the log is empty: the attempt has logged nothing yet, "
            "or its node went offline before the node sent the log"
        )


def _as_it_is(part: bytes) -> None:
    sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


def _for_a_terminal() -> Callable[[bytes], None]:
    """Return a function that prints a log with its escape codes shown as text: they may come from outside."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def out(part: bytes) -> None:
        text = decoder.decode(part).replace("\r", "\n")
        click.echo(shown_lines(text, 8 * len(text)), nl=False)

    return out


@task.command()
@click.argument("name", metavar="JOB/TASK")
@format_option
@click.pass_context
def retry(ctx: click.Context, name: str, form: str) -> None:
    """Run one failed or cancelled task again. The job then continues.

    If the task needs other tasks that are unfinished, the farm runs those other tasks first. To run all failed and
    cancelled tasks of a job again, use `farmctl job retry`.

    \b
    Example:
      farmctl task retry j-06b2b/window/3
    """
    answer = connect(ctx).retry_task(name)
    if form == "json":
        return print_json(answer)
    click.echo(
        f"{answer.task.key} is {word_of(jobs_pb2.TaskState, answer.task.state)}; {put_back(answer.tasks)}"
    )
