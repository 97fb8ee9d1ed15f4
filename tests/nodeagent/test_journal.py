from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from farm.v1 import nodes_pb2
from nodeagent.journal import Held, Journal
from tests.nodeagent.completions import ended


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


def test_completions_wait_in_order_until_acknowledged(path):
    journal = Journal(path)
    numbers = [journal.complete(ended(name)).journal_number for name in "abc"]
    assert numbers == sorted(set(numbers))
    journal.acknowledge(numbers[1])
    assert [c.attempt.attempt_id for c in journal.pending()] == ["a", "c"]
    assert [c.journal_number for c in journal.pending()] == [numbers[0], numbers[2]]
    assert journal.pending()[0].artifact_ids == ["x"]


def test_a_number_is_never_used_again_even_when_the_journal_was_empty_in_between(path):
    journal = Journal(path)
    first = journal.complete(ended("a")).journal_number
    journal.acknowledge(first)
    journal.close()
    assert Journal(path).complete(ended("b")).journal_number > first


def test_an_attempt_ends_once_while_its_end_is_unacknowledged(path):
    journal = Journal(path)
    first = journal.complete(ended("a"))
    again = journal.complete(ended("a", outcome=nodes_pb2.OUTCOME_LOST))
    assert again == first and len(journal.pending()) == 1
    assert journal.complete(ended("a", epoch=2)).journal_number != first.journal_number


def test_an_attempt_is_held_until_it_ends(path):
    journal = Journal(path)
    held = Held("a", 1, "cpu", 123, "456")
    journal.hold(held)
    journal.close()
    journal = Journal(path)
    assert journal.held() == [held]
    journal.complete(ended("a"))
    assert journal.held() == []


def test_acknowledging_twice_does_no_harm(path):
    journal = Journal(path)
    number = journal.complete(ended("a")).journal_number
    journal.acknowledge(number)
    journal.acknowledge(number)
    assert journal.pending() == []


WRITER = """
import sys
from pathlib import Path
from farm.v1 import nodes_pb2
from nodeagent.journal import Journal
journal = Journal(Path(sys.argv[1]))
for index in range(10_000):
    reference = nodes_pb2.AttemptRef(attempt_id=f"a{index}", epoch=1)
    print(journal.complete(nodes_pb2.Completion(attempt=reference)).journal_number, flush=True)
"""


def test_what_was_journaled_before_a_kill_9_is_there_after_it(path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(50)]
    os.kill(writer.pid, signal.SIGKILL)
    told += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    pending = [c.journal_number for c in Journal(path).pending()]
    assert pending[: len(told)] == told
    assert len(pending) - len(told) <= 1


def test_entries_are_kept_and_forgotten_while_its_files_cannot_grow(path):
    """As on a full disk, where what is there can be written over."""
    journal = Journal(path)
    size = max(file.stat().st_size for file in path.parent.iterdir())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        for number in range(500):
            journal.hold(Held(str(number), 1, "cpu", 1, "then"))
            end = ended(str(number))
            end.error = "Traceback" * 200
            told = journal.complete(end)
            assert journal.held() == []
            if number >= 20:
                journal.acknowledge(told.journal_number - 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [one.attempt.attempt_id for one in journal.pending()] == [
        str(number) for number in range(480, 500)
    ]
