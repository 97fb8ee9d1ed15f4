"""farmctl prints names, prompts and errors as text: nothing in them is obeyed by rich or by the terminal."""

from __future__ import annotations

import errno
import io

import click
import pytest
import structlog
from click.testing import CliRunner

from farm.cli import main, printing
from farm.cli.printing import done_all_the_same
from farm.cli.task import _for_a_terminal
from farm.logs import configure_logs

NASTY = "[bold]x[/bold] \x1b[31mred\x1b[0m \u202eabc\u202c caf\udce9 [/nothing]"
SHOWN = r"[bold]x[/bold] \x1b[31mred\x1b[0m \u202eabc\u202c caf\udce9 [/nothing]"


def printed(call, *given) -> str:
    command = click.Command("c", callback=lambda: call(*given))
    result = CliRunner().invoke(command)
    assert result.exception is None
    return result.output


@pytest.mark.parametrize("call", [printing.note, printing.say])
def test_a_line_is_escaped(call):
    assert printed(call, NASTY) == SHOWN + "\n"


def test_a_line_keeps_its_breaks():
    assert printed(printing.say, "one\ntwo\x1b") == "one\ntwo\\x1b\n"


def test_a_table_shows_cells_as_they_are(capsys):
    printing.print_table(("NAME", "WHY"), [(NASTY, "two\nlines")], "nothing")
    out = capsys.readouterr().out
    assert SHOWN in out and "two\\x0alines" in out and "\x1b" not in out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_spinner_takes_no_markup(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    with printing.spinner() as tell:
        tell("[/nothing] waits\x1b]0;owned\x07")
    assert "\x1b]0;" not in screen.getvalue()


def test_an_error_about_a_file_of_any_name_is_one_line_that_can_be_printed(tmp_path):
    path = tmp_path / "\x1b]0;owned\x07\n[red].mp4"
    path.write_bytes(b"no media")
    result = CliRunner().invoke(main, ["submit", "extend", str(path), "--frames", "9", "--dry-run"])
    assert result.exit_code == 2 and "\x1b" not in result.output and "\x07" not in result.output
    assert r"\x1b]0;owned\x07\x0a[red].mp4: is neither a clip nor an image" in result.output


def test_a_log_on_a_terminal_is_escaped_and_whole(capsys):
    out = _for_a_terminal()
    for part in (b"step 1\rstep 2\n", "é".encode()[:1], "é".encode()[1:], b"\x1b[2J\xff\n"):
        out(part)
    assert capsys.readouterr().out == "step 1\nstep 2\né\\x1b[2J\ufffd\n"


def test_the_log_of_a_daemon_is_escaped(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    before = structlog.get_config()
    try:
        configure_logs("info", "text", "farmd")
        structlog.get_logger().warning("refused\x1b[2J", why="x\x1b[31m\x07")
    finally:
        structlog.configure(**before)
    assert "\x07" not in screen.getvalue() and "\x1b[2J" not in screen.getvalue()
    assert r"\x1b[31m\x07" in screen.getvalue()


def test_what_was_done_is_named_where_standard_output_cannot_be_written(capsys):
    with done_all_the_same("job j-1 was submitted"):
        raise OSError(errno.ENOSPC, "No space left on device")
    said = "job j-1 was submitted, but writing to standard output failed (No space left on device)\n"
    assert capsys.readouterr().err == said
