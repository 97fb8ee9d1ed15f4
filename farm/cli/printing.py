"""Printing for farmctl: tables for people, the API's own JSON for programs, sizes and times in words."""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from farm.cli.columns import fitted_widths, narrowest_width, natural_width
from farm.cli.params import Choice
from farm.client import FarmClient
from farm.outside_text import hidden, shown, shown_lines
from farm.policy.gist import failure
from farm.v1 import jobs_pb2, nodes_pb2
from farm.wire.enum_words import word_of

FORMATS = ("table", "json")

format_option = click.option(
    "-o",
    "--output",
    "form",
    type=Choice(FORMATS),
    default="table",
    show_default=True,
    help="Print a table for people, or JSON with the field names of the API.",
)

# A pipe has no width: cutting a line to 80 characters would hide part of the answer.
_WIDE = 400
_CELL = 2000
_GAP = 2
"""Cells between two columns, if there is room."""


def connect(ctx: click.Context, patience: float = 3.0) -> FarmClient:
    """Return a client for the farm that this command is about.

    The option --profile names the farm's profile. Without --profile, the profile is found as Profile.find describes.

    `patience`: seconds for which a call is tried again while no farm answers.
    """
    return ctx.with_resource(FarmClient.from_profile(ctx.find_root().obj, patience=patience))


def console(stderr: bool = False) -> Console:
    """Return a console that prints text unchanged, even if the text looks like rich's markup."""
    tty = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        markup=False,
        highlight=False,
        emoji=False,
        soft_wrap=True,
        width=None if tty else _WIDE,
    )


def note(text: str) -> None:
    """Print a line for people on standard error, apart from the output that a program reads."""
    click.echo(shown_lines(hidden(text)), err=True)


def say(text: str) -> None:
    """Print a line of a command's answer on standard output, with control characters escaped."""
    click.echo(shown_lines(text))


@contextlib.contextmanager
def done_all_the_same(what: str) -> Iterator[None]:
    """Let a command succeed even if it can't print its answer inside this context.

    If printing fails, a line on standard error tells what the command has done.

    `what`: what the command has done, such as "the farm is up".
    """
    try:
        yield
    except OSError as error:
        note(f"{what}, but writing to standard output failed ({error.strerror})")


@contextlib.contextmanager
def spinner() -> Iterator[Callable[[str], None]]:
    """Show what a command waits for: a spinner on a terminal, elsewhere a line for each change.

    The yielded function takes the text to show.
    """
    if sys.stderr.isatty():
        with console(stderr=True).status("…") as status:
            # rich would read a plain string as markup.
            yield lambda text: status.update(Text(shown(hidden(text))))
        return
    told = ""

    def tell(text: str) -> None:
        nonlocal told
        if text != told:
            note(text)
        told = text

    yield tell


def print_json(message: Message, indent: int | None = 2) -> None:
    """Print a message as JSON with the proto's own field names."""
    click.echo(
        MessageToJson(
            message,
            indent=indent,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
    )


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    nothing: str,
    keep: Sequence[str] = (),
    free: Sequence[str] = (),
) -> None:
    """Print a table. On a narrow terminal, cells are folded between words.

    If the table is still too wide, each row takes several lines.

    Args:
        headings: The heading of each column.
        rows: The cells of each row.
        nothing: The text to print if there are no rows.
        keep: Headings of the columns that are never folded, because they hold names.
        free: Headings of the columns with free text, such as reasons. Their words may be broken.
    """
    cells = [[shown(cell, _CELL) for cell in row] for row in rows]
    if not cells:
        return note(nothing)
    columns = dict(zip(headings, zip(*[headings, *cells], strict=True), strict=True))
    natural = {heading: natural_width(column) for heading, column in columns.items()}
    narrowest = {
        heading: natural[heading] if heading in keep else narrowest_width(column, free=heading in free)
        for heading, column in columns.items()
    }
    out, gaps = console(), len(headings) - 1
    whole = sum(natural.values()) + _GAP * gaps
    room = out.width if sys.stdout.isatty() else whole
    gap = _GAP if whole <= room else 1
    if widths := fitted_widths(list(natural.values()), list(narrowest.values()), room - gap * gaps):
        table = _table(headings, widths, gap)
        for row in cells:
            table.add_row(*map(Text, row))
        return out.print(table, soft_wrap=False, width=room)
    kept = _beside({heading: natural[heading] for heading in headings if heading in keep}, room)
    wide = max(room, sum(kept.values()) + len(kept))
    out.print(_table(list(kept), list(kept.values()), 1), soft_wrap=False, width=wide)
    for row in cells:
        said = dict(zip(headings, row, strict=True))
        table = _table(list(kept), list(kept.values()), 1, show_header=False)
        table.add_row(*(Text(said.pop(heading)) for heading in kept))
        out.print(table, soft_wrap=False, width=wide)
        rest = "  ".join(f"{heading} {cell}" for heading, cell in said.items() if cell not in ("", "-"))
        if rest:
            out.print(Padding(Text(rest, overflow="fold"), (0, 0, 0, 2)), soft_wrap=False, width=room)


def _table(headings: Sequence[str], widths: Sequence[int], gap: int, *, show_header: bool = True) -> Table:
    padding = (0, gap, 0, 0)
    table = Table(box=None, padding=padding, pad_edge=False, header_style="bold", show_header=show_header)
    for heading, width in zip(headings, widths, strict=True):
        table.add_column(heading, width=width, overflow="fold")
    return table


def _beside(widths: Mapping[str, int], room: int) -> dict[str, int]:
    """Return the first columns that fit side by side in `room` cells, and at least one."""
    fit: dict[str, int] = {}
    for heading, width in widths.items():
        if fit and sum(fit.values()) + len(fit) + width > room:
            break
        fit[heading] = width
    return fit


def job_state(job: jobs_pb2.Job) -> str:
    """Return a job's state in one word."""
    return word_of(jobs_pb2.JobState, job.state)


def how_it_ended(job: jobs_pb2.Job) -> str:
    """Return a line that says why a job ended without its video, and what to do next."""
    again = f"; `farmctl job retry {job.id}` continues from the finished tasks"
    return failure(job.error, job.id) + (again if job.state == jobs_pb2.JOB_STATE_FAILED else "")


def when(seconds: float) -> str:
    """Return a Unix time as local date and time; "-" for 0."""
    return (
        datetime.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        if seconds
        else "-"
    )


def duration(seconds: float) -> str:
    """Return seconds in words: "42.0 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: "1 step", "2 passes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def size(count: float) -> str:
    """Return a number of bytes in words: "24.0 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def flops(rate: float) -> str:
    """Return FLOPs a second in words: "41.2 TFLOP/s"."""
    return f"{rate / 1e12:.1f} TFLOP/s" if rate >= 1e12 else f"{rate / 1e9:.1f} GFLOP/s"


def declared_devices(nodes: Iterable[nodes_pb2.Node]) -> set[str]:
    """Return the names of the declared devices, each as "node/device".

    A declared device is for trials: a node's settings list it, but farm-node did not detect it.
    """
    return {
        f"{node.name}/{status.device.name}"
        for node in nodes
        for status in node.devices
        if status.device.declared
    }


def marker(declared: set[str]) -> Callable[[str], str]:
    """Return a function that marks the names of declared devices.

    The function takes one name, as "node/device". If the name is in `declared`, the function returns it with
    " (declared)" at the end. It returns any other name unchanged.
    """
    return lambda place: f"{place} (declared)" if place in declared else place


def weights(hash: str) -> str:
    """Return the first 12 characters of the hash of a model's weights, which are enough for people."""
    return hash.removeprefix("sha256:")[:12]
