"""What is left of a log for somebody who has seen its beginning; and lines that can't be written."""

from __future__ import annotations

import contextlib
import io

import structlog
from hypothesis import given
from hypothesis import strategies as st

from farm.logs import SEEN_BYTES, configure_logs, rest


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
    configure_logs("info", "text")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        structlog.get_logger().info("nobody reads this")
        monkeypatch.undo()
        # What it holds back is thrown away, not written when it is closed.
        with contextlib.suppress(OSError):
            full.close()


def test_lines_go_to_standard_error_as_it_is_then(monkeypatch):
    configure_logs("info", "text")
    log = structlog.get_logger()
    for _ in range(2):
        monkeypatch.setattr("sys.stderr", caught := io.StringIO())
        log.info("it is read here")
        assert "it is read here" in caught.getvalue()
