"""What is left of a log for somebody who has seen its beginning; lines of every process, and the files they go to."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
from pathlib import Path

import structlog
from hypothesis import given
from hypothesis import strategies as st

from farm.log_file import MAX_BYTES, LogFile, cut
from farm.logs import SEEN_BYTES, configure_as_told, configure_logs, rest, variables
from farm.processes.detached import DetachedProcess


def until(condition, seconds: float = 15.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it didn't happen in time"
        time.sleep(0.02)


@given(st.lists(st.sampled_from([b"step\n", b"a\n", b"waits for its lease\n"])), st.integers(0, 200))
def test_of_a_whole_log_what_was_not_seen_is_left(lines, seen):
    log = b"".join(lines)
    seen = min(seen, len(log))
    assert rest(log, seen, log[max(0, seen - SEEN_BYTES) : seen]) == log[seen:]


def lines(start, stop):
    return b"".join(b"step %d done\n" % number for number in range(start, stop))


def test_of_one_that_lost_its_middle_the_end_is_shown_from_where_it_was_seen():
    seen = lines(0, 900)
    kept = lines(0, 10) + b"[left out]\n" + lines(500, 1000)
    assert rest(kept, len(seen), seen[-SEEN_BYTES:]) == lines(900, 1000)


def test_of_one_that_lost_what_was_seen_last_the_end_is_shown_and_a_line_says_so():
    seen = lines(0, 900)
    kept = lines(0, 10) + b"[left out]\n" + lines(950, 1000)
    left = rest(kept, len(seen), seen[-SEEN_BYTES:])
    assert left.endswith(lines(950, 1000)) and b"a part was cut out" in left
    assert rest(kept, 0, b"") == kept


def test_a_line_that_cannot_be_written_fails_nobody(monkeypatch):
    configure_logs("info", "text", "farmd")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        structlog.get_logger().info("nobody reads this")
        monkeypatch.undo()
        # What it holds back is thrown away, not written when it is closed.
        with contextlib.suppress(OSError):
            full.close()


def test_lines_go_to_standard_error_as_it_is_then(monkeypatch):
    configure_logs("info", "text", "farmd")
    log = structlog.get_logger()
    for _ in range(2):
        monkeypatch.setattr("sys.stderr", caught := io.StringIO())
        log.info("it is read here")
        assert "it is read here" in caught.getvalue()


def test_lines_of_libraries_have_the_format_of_all_others(capsys):
    configure_logs("info", "json", "bridge", node="west")
    logging.getLogger("grpc.aio").warning("%s is away", "farmd")
    logging.getLogger("alembic").info("not worth a line")
    structlog.get_logger().info("begun", job="j1")
    library, ours = map(json.loads, capsys.readouterr().err.splitlines())
    assert library.items() >= {"event": "farmd is away", "logger": "grpc.aio", "level": "warning"}.items()
    for line in (library, ours):
        assert (line["process"], line["node"]) == ("bridge", "west") and "timestamp" in line


def test_libraries_of_a_renderer_write_into_the_log_of_its_attempt(tmp_path, capfd):
    configure_logs("info", "text", "renderer", file=tmp_path / "renderer.log", libraries=False)
    structlog.get_logger().info("begun")
    assert "begun" in (tmp_path / "renderer.log").read_text() and "begun" not in capfd.readouterr().err
    assert not [one for one in logging.getLogger().handlers if isinstance(one, LogFile)]


def test_a_child_writes_as_the_process_that_started_it(monkeypatch, capsys):
    for name, value in variables("warning", "json").items():
        monkeypatch.setenv(name, value)
    configure_as_told("bridge")
    structlog.get_logger().info("too little")
    structlog.get_logger().warning("enough")
    assert json.loads(capsys.readouterr().err)["event"] == "enough"


WRITER = """
import sys
import structlog
from farm.logs import configure_logs
from farm import log_file
log_file.LogFile.__init__.__defaults__ = (4096,)
configure_logs("info", "text", "farmd")
for number in range(int(sys.argv[1])):
    structlog.get_logger().info(f"line {number} of many", padding="x" * 60)
    if number % 10 == 0:
        print(f"printed {number}", flush=True)
"""


class Writer(DetachedProcess):
    """A process of the farm that says a number of lines and prints some more."""

    def __init__(self, home: Path, lines: int) -> None:
        super().__init__("writer", home)
        self._lines = lines

    def command(self) -> list[str]:
        return [sys.executable, "-P", "-c", WRITER, str(self._lines)]


def written(home: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(home.glob("writer.log*"))}


def test_the_log_of_a_process_that_outlives_its_starter_begins_anew_at_a_size_and_loses_no_line(tmp_path):
    writer = Writer(tmp_path, 100)
    writer.start()
    until(lambda: not writer.alive())
    logs = written(tmp_path)
    assert list(logs) == ["writer.log", "writer.log.1", "writer.log.2", "writer.log.3"]
    assert all(len(text) < 4096 + 300 for text in logs.values())
    told = "".join(logs[name] for name in reversed(logs)).splitlines()
    numbers = [int(line.split("line ")[1].split()[0]) for line in told if "line " in line]
    assert numbers == list(range(numbers[0], 100)) and len(numbers) > 60, "an unbroken run up to the last"
    printed = [int(line.removeprefix("printed ")) for line in told if line.startswith("printed")]
    assert printed == [number for number in range(0, 100, 10) if number >= printed[0]] and printed[-1] == 90


def test_a_log_that_is_full_begins_anew_at_the_next_start(tmp_path):
    (tmp_path / "writer.log").write_bytes(b"x" * MAX_BYTES)
    writer = Writer(tmp_path, 1)
    writer.start()
    until(lambda: not writer.alive())
    logs = written(tmp_path)
    assert "line 0 of many" in logs["writer.log"] and len(logs["writer.log.1"]) == MAX_BYTES


def test_a_log_that_cannot_be_renamed_goes_on_and_grows(tmp_path):
    log = LogFile(tmp_path / "a.log", max_bytes=10)
    for number in (1, 2, 3):
        (tmp_path / f"a.log.{number}" / "in the way").mkdir(parents=True)
    for number in range(3):
        log.emit(logging.makeLogRecord({"msg": f"line {number} of three"}))
    log.close()
    assert (tmp_path / "a.log").read_text().count("of three") == 3


def test_of_two_that_write_one_log_each_follows_the_other(tmp_path):
    one, other = (LogFile(tmp_path / "a.log", max_bytes=10) for _ in range(2))
    for number in range(20):
        (one, other)[number % 2].emit(logging.makeLogRecord({"msg": f"line {number}"}))
    names = ["a.log.3", "a.log.2", "a.log.1", "a.log"]
    told = [line for name in names for line in (tmp_path / name).read_text().splitlines()]
    assert told == [f"line {number}" for number in range(20 - len(told), 20)] and len(told) >= 4


def test_what_another_program_appends_to_is_emptied_at_a_size_and_written_on(tmp_path):
    path = tmp_path / "raylet.out"
    with path.open("ab", buffering=0) as program:
        program.write(b"0123456789")
        cut(path, max_bytes=11)
        assert path.read_bytes() == b"0123456789", "it is not long yet"
        program.write(b"abc")
        for _ in range(2):
            cut(path, max_bytes=11)
            cut(tmp_path / "raylet.out.1", max_bytes=11)
        program.write(b"on it goes")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        "raylet.out": b"on it goes",
        "raylet.out.1": b"0123456789abc",
    }


def test_a_log_is_emptied_on_a_full_disk_too(tmp_path):
    (tmp_path / "raylet.out").write_bytes(b"x" * 20)
    (tmp_path / "raylet.out.1").mkdir()  # stands in for a disk without room for a copy
    cut(tmp_path / "raylet.out", max_bytes=11)
    assert (tmp_path / "raylet.out").read_bytes() == b""
