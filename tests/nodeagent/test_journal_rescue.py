"""A damaged journal: whatever can be read of it is kept, the file is set aside, and the agent goes on."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from nodeagent.journal import Held, Journal
from nodeagent.journal_rescue import JournalTooNew, open_journal
from tests.damage import OF_TEXT, spoil
from tests.full_disk import run_on_a_full_disk
from tests.nodeagent.completions import ended

NAMES = [f"attempt-{number:03}" for number in range(40)]
HELD = Held("held", 1, "cpu", 123, "456")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The bytes of a journal with forty completions over many pages, and one attempt in hand."""
    path = tmp_path_factory.mktemp("whole") / "journal.db"
    journal = Journal(path)
    for name in NAMES:
        completion = ended(name)
        completion.error = "x" * 1500
        journal.complete(completion)
    journal.hold(HELD)
    journal.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, whole) -> Path:
    path = tmp_path / "journal.db"
    path.write_bytes(whole)
    return path


def kept(journal: Journal) -> list[str]:
    return [completion.attempt.attempt_id for completion in journal.pending()]


def aside(path: Path) -> list[Path]:
    return [
        found
        for found in path.parent.glob("journal.db.damaged-*")
        if not found.name.endswith(("-wal", "-shm"))
    ]


def change(path: Path, statement: str) -> None:
    database = sqlite3.connect(path)
    database.execute("PRAGMA writable_schema = ON")
    database.execute(statement)
    database.commit()
    database.close()


def test_a_sound_journal_is_opened_as_it_is(path):
    journal = open_journal(path)
    assert kept(journal) == NAMES and journal.held() == [HELD] and not aside(path)


def test_a_journal_that_a_kill_left_with_its_log_is_sound(path):
    journal = Journal(path)
    journal.complete(ended("later"))  # in the log alone
    assert kept(open_journal(path)) == [*NAMES, "later"] and not aside(path)


@pytest.mark.parametrize("kind", OF_TEXT)
def test_whatever_the_damage_the_agent_goes_on_with_a_journal_that_works(path, kind):
    spoil(path, OF_TEXT[kind])
    with capture_logs() as logs:
        journal = open_journal(path)
    assert len(aside(path)) == 1 and "journal.db" in logs[0]["event"] and logs[0]["log_level"] == "error"
    assert journal.complete(ended("next")).journal_number > len(NAMES), "no number is given twice"
    journal.close()
    assert kept(open_journal(path))[-1] == "next" and len(aside(path)) == 1


def test_a_damaged_page_costs_the_entries_on_it_and_no_others(path, whole):
    page = whole.index(b"attempt-020") // 4096
    path.write_bytes(whole[: page * 4096] + b"\xff" * 4096 + whole[(page + 1) * 4096 :])
    with capture_logs() as logs:
        journal = open_journal(path)
    found = kept(journal)
    assert len(found) >= len(NAMES) - 6 and set(found) < set(NAMES) and found == sorted(found)
    assert journal.held() == [HELD]
    numbers = {c.attempt.attempt_id: c.journal_number for c in journal.pending()}
    assert all(NAMES[number - 1] == name for name, number in numbers.items()), "each keeps its number"
    assert f"{len(found) + 1} of its readable entries were kept" in logs[0]["event"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE completions SET message = x'ffff' WHERE number = 7",
        "UPDATE completions SET message = NULL WHERE number = 7",
        "UPDATE completions SET attempt_id = x'fffe' WHERE number = 7",
        "UPDATE completions SET epoch = 'one' WHERE number = 7",
        "UPDATE completions SET attempt_id = 'another' WHERE number = 7",
        "UPDATE held SET pid = 'x'",
    ],
)
def test_a_bad_row_is_left_out_and_all_others_stay(path, statement):
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE copy AS SELECT * FROM completions")
    # As a flipped bit would: past the constraints.
    database.execute("PRAGMA writable_schema = ON")
    database.execute(
        "UPDATE sqlite_master SET sql = replace(sql, 'BLOB NOT NULL', 'BLOB') WHERE name = 'completions'"
    )
    database.execute("DROP TABLE copy")
    database.commit()
    database.close()
    change(path, statement)
    with capture_logs() as logs:
        journal = open_journal(path)
    of_held = "held" in statement
    assert kept(journal) == [name for name in NAMES if of_held or name != NAMES[6]]
    assert journal.held() == ([] if of_held else [HELD])
    assert "40 of 41 entries were kept" in logs[0]["event"] and len(aside(path)) == 1


@pytest.mark.parametrize("statement", ["DROP TABLE completions", "ALTER TABLE held ADD COLUMN more TEXT"])
def test_what_another_schema_holds_of_ours_is_kept(path, statement):
    change(path, statement)
    journal = open_journal(path)
    assert kept(journal) == ([] if "DROP" in statement else NAMES)
    assert journal.held() == [HELD] and len(aside(path)) == 1


def test_another_applications_database_is_set_aside(path):
    path.unlink()
    change(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    assert kept(open_journal(path)) == []
    assert aside(path)[0].read_bytes() == before


def test_a_journal_of_a_newer_version_is_not_damage(path):
    change(path, "PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(JournalTooNew, match=r"schema 7.*run the newer farm-node"):
        open_journal(path)
    assert path.read_bytes() == before and not aside(path)


def test_a_log_without_its_journal_is_set_aside_with_it(path):
    log = path.with_name("journal.db-wal")
    path.rename(log)
    assert kept(open_journal(path)) == []
    assert [found.name.endswith("-wal") for found in path.parent.glob("*.damaged-*")] == [True]


def test_an_agent_that_died_between_the_two_renames_loses_nothing(path, whole):
    path.with_name("journal.db.rescued").write_bytes(whole)
    path.write_bytes(b"damaged")
    assert kept(open_journal(path)) == NAMES and len(aside(path)) == 1
    assert kept(open_journal(path)) == NAMES and len(aside(path)) == 1


@settings(max_examples=40)
@given(data=st.data())
def test_no_damage_keeps_an_agent_from_starting_or_makes_up_an_entry(whole, tmp_path_factory, data):
    path = tmp_path_factory.mktemp("any") / "journal.db"
    begin = data.draw(st.integers(0, len(whole)), "from")
    noise = data.draw(st.binary(max_size=200), "noise")
    rest = whole[begin + len(noise) :] if data.draw(st.booleans(), "goes on") else b""
    path.write_bytes(whole[:begin] + noise + rest)
    before = path.read_bytes()
    journal = open_journal(path)
    assert set(kept(journal)) <= set(NAMES)
    assert journal.complete(ended("next")).journal_number > 0
    journal.close()
    if found := aside(path):
        assert found[0].read_bytes() == before, "what was there can still be looked at"
    else:
        assert kept(open_journal(path))[:-1] == NAMES


FULL = """
import sys
from pathlib import Path
from nodeagent.journal_rescue import JournalAway, open_journal
try:
    print(len(open_journal(Path(sys.argv[1])).pending()))
except JournalAway as error:
    print("away:", error)
"""


@pytest.mark.parametrize("left", ["closed", "log", "new"])
def test_a_full_disk_is_no_damage_and_a_sound_journal_stays_in_place(tmp_path, whole, left):
    disk, made = tmp_path / "disk", tmp_path / "made"
    made.mkdir()
    (tmp_path / "look.py").write_text(FULL)
    if left != "new":
        (made / "journal.db").write_bytes(whole)
    if left == "log":
        journal = Journal(made / "journal.db")
        journal.complete(ended("later"))
    look = f"{sys.executable} {tmp_path}/look.py {disk}/journal.db"
    done = run_on_a_full_disk(
        disk,
        f"{look}; ls {disk}; room; {look}; ls {disk}",
        f"cp {made}/* {disk} || true; rm -f {disk}/*-shm",
        dict(os.environ) | {"PYTHONPATH": os.getcwd()},
    )
    first, *between, last = [line for line in done.stdout.splitlines() if not line.startswith("journal.db-")]
    assert first.startswith(f"away: {disk}/journal.db can't be used now ("), done
    assert "make sure that the disk has room" in first and "damaged" not in done.stdout
    entries = {"closed": len(NAMES), "log": len(NAMES) + 1, "new": 0}[left]
    assert str(entries) in between and last == "journal.db", done.stdout


def test_a_journal_that_the_system_does_not_open_is_no_damage(path):
    before = path.read_bytes()
    few = FULL.replace("try:", "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))\ntry:")
    done = subprocess.run([sys.executable, "-c", few, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"away: {path} can't be used now (unable to open database file)"), done
    assert not aside(path) and path.read_bytes() == before
    assert kept(open_journal(path)) == NAMES
