"""Following a job that waits: why is said at once, said again when it changes, and gone when the job goes on."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from farm.cli import main
from farm.cli.bars import StageBars
from farm.cli.follow import _lines, told
from farm.v1 import jobs_pb2
from tests.farm.store.store_world import submit, task

DRAINED = "1 task is ready: no device is usable: ws1/cuda:0 is drained (`farmctl node resume ws1`); 3 tasks wait for it"


def job(waiting: str = "", running: int = 0, done: float = 0, loading: str = "", **fields) -> jobs_pb2.Job:
    found = jobs_pb2.Job(id="j-1", state=jobs_pb2.JOB_STATE_RUNNING, waiting=waiting, **fields)
    found.stages.add(kind="encode", total=1, succeeded=1, done=1)
    found.stages.add(kind="window", total=2, running=running, done=done)
    found.stages.add(kind="mux", total=1)
    for device in ("ws2/cuda:0", "ws1/cuda:0") if loading else ():
        found.stages[1].loading.add(task="window/0", model=loading, device=device)
    return found


def test_without_a_terminal_a_reason_is_a_line_once_and_so_is_that_it_goes_on(capsys):
    show = _lines()
    for update in (
        job(),
        job(DRAINED),
        job(DRAINED),
        job(""),
        job(DRAINED),
        job("other"),
        job(running=1),
        job(running=1),
    ):
        show(update)
    assert capsys.readouterr().out.splitlines() == [
        "job j-1 running", "encode 1/1", f"waiting: {DRAINED}", "waiting: other", "job j-1 goes on",
    ]  # fmt: skip


def test_without_a_terminal_a_model_that_is_loaded_part_by_part_is_a_line_a_device(capsys):
    show = _lines()
    for update in (job(running=2, loading="ltx-tiny"), job(running=2), job(running=2, loading="ltx-tiny")):
        show(update)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "loading ltx-tiny on ws1/cuda:0", "loading ltx-tiny on ws2/cuda:0",
    ]  # fmt: skip


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def at_rest(console: Console) -> StageBars:
    """Bars that are drawn when a test says so alone, and not by rich's own thread meanwhile."""
    bars = StageBars(console)
    bars._progress.live.auto_refresh = False
    return bars


def drawn(*updates: jobs_pb2.Job, width: int = 60) -> str:
    """What is on a terminal of colours once these updates were shown, with its escapes, before the bars end."""
    screen = Screen()
    console = Console(
        file=screen, force_terminal=True, color_system="truecolor", width=width, height=30, soft_wrap=True,
        _environ={"TERM": "xterm"},
    )  # fmt: skip
    with at_rest(console) as bars:
        for update in updates:
            bars.show(update, told(update))
        screen.truncate(0)
        bars._progress.refresh()
        return screen.getvalue()


def plain(drawing: str) -> str:
    """The same without its escapes, its lines joined."""
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", drawing)
    return re.sub(r"\s+", " ", text)


GREY = "\x1b[90m"


@pytest.mark.parametrize("width", [60, 80, 200])
def test_on_a_terminal_stages_that_wait_are_grey_at_rest_and_the_reason_is_whole_below(width):
    drawing = drawn(job(DRAINED), width=width)
    assert f"waiting: {DRAINED}" in plain(drawing)
    window, mux = (next(line for line in drawing.splitlines() if kind in line) for kind in ("window", "mux"))
    for line in (window, mux):
        assert GREY in line and "249;38;114" not in line, line
    assert GREY not in next(line for line in drawing.splitlines() if "encode" in line)
    assert drawing == drawn(job(DRAINED), width=width), "nothing moves"


def test_on_a_terminal_the_reason_goes_when_work_begins_and_a_model_that_loads_is_named():
    drawing = drawn(job(DRAINED), job(running=1, loading="ltx-tiny"))
    assert "waiting" not in plain(drawing) and "loading ltx-tiny on ws1/cuda:0" in plain(drawing)
    window = next(line for line in drawing.splitlines() if "window" in line)
    assert "\x1b[90mwindow" not in window and "1 running" in window
    assert "loading" not in plain(drawn(job(running=1, loading="ltx-tiny"), job(running=1, done=0.5)))


def test_a_job_that_waits_is_shown_with_the_reason(daemon, capsys):
    made = submit(daemon.store, name="sh010")
    daemon.store.tasks.set_reasons(
        {task(daemon.store, made, "encode").id: "no device is usable: it is drained"}
    )
    main(["--profile", str(daemon.home / "client.json"), "job", "show", "sh010"], standalone_mode=False)
    said = "waiting:   1 task is ready: no device is usable: it is drained; 4 tasks wait for it\n"
    assert said in capsys.readouterr().out
    daemon.store.jobs.cancel(made.id)
    main(["--profile", str(daemon.home / "client.json"), "job", "show", "sh010"], standalone_mode=False)
    assert "waiting:" not in capsys.readouterr().out


def rows(drawing: str) -> list[str]:
    """What a terminal shows in the end: of its escapes only those that move up or clear a line matter here."""
    lines, at, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[\d;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", drawing):
        if part == "\r":
            column = 0
        elif part == "\n":
            at, column = at + 1, 0
            lines += [""] * (at + 1 - len(lines))
        elif part[0] == "\x1b":
            many = int(re.sub(r"\D", "", part) or 1)
            if part[-1] == "A":
                at = max(0, at - many)
            elif part[-1] == "K":
                lines[at] = "" if part == "\x1b[2K" else lines[at][:column]
        else:
            lines[at] = lines[at].ljust(column)[:column] + part + lines[at][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_on_a_terminal_what_is_told_stays_above_the_bars_and_leaves_none_behind():
    screen = Screen()
    console = Console(file=screen, force_terminal=True, width=60, height=30, _environ={"TERM": "xterm"})
    with at_rest(console) as bars:
        bars.show(job(running=1), [])
        bars._progress.refresh()
        bars.tell("window/0 lost on ws1/cuda:0: its renderer died")
        bars.show(job(running=1, done=0.5), [])
        bars._progress.refresh()
    seen = rows(screen.getvalue())
    assert seen[0] == "window/0 lost on ws1/cuda:0: its renderer died"
    assert [line.split()[0] for line in seen[1:] if line] == ["encode", "window", "mux"]
