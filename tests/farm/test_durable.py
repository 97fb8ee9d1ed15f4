"""Files appear whole, and what killed processes left goes with the next; what a living one holds stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading

import pytest

from farm import durable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def killed(script: str, *arguments) -> None:
    """Runs a script that ends itself with kill -9."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_file_is_replaced_whole_and_is_its_owners_alone(tmp_path):
    durable.write_whole(tmp_path / "a", b"one")
    durable.write_whole(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2" and names(tmp_path) == ["a"]
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    durable.write_whole(tmp_path / "a", b"three", replace=False)
    assert (tmp_path / "a").read_bytes() == b"2" and names(tmp_path) == ["a"]


def test_writers_of_one_file_do_not_mix(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(8)]
    threads = [threading.Thread(target=durable.write_whole, args=(tmp_path / "a", one)) for one in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "a").read_bytes() in contents and names(tmp_path) == ["a"]


def test_the_next_writer_removes_the_file_of_a_killed_one(tmp_path):
    killed(
        """
        import os, pathlib, signal, sys
        from farm import durable
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        durable.write_whole(pathlib.Path(sys.argv[1]), b"a longer one")
        """,
        tmp_path / "a",
    )
    assert names(tmp_path) == [".a.part"]
    durable.write_whole(tmp_path / "a", b"short")
    assert (tmp_path / "a").read_bytes() == b"short" and names(tmp_path) == ["a"]


def test_a_folder_for_work_goes_however_its_block_ends(tmp_path):
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), durable.scratch(tmp_path, "work") as folder:
            (folder / "deep").mkdir()
            (folder / "deep" / "file").write_text("x")
            raise error
    assert names(tmp_path) == []


def test_a_folder_of_a_killed_process_goes_with_the_next_and_that_of_a_living_one_stays(tmp_path):
    killed(
        """
        import os, pathlib, signal, sys
        from farm import durable
        with durable.scratch(pathlib.Path(sys.argv[1]), "work") as folder:
            (folder / "file").write_text("x")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        tmp_path,
    )
    (left,) = names(tmp_path)
    with durable.scratch(tmp_path, "work") as living:
        assert left not in names(tmp_path)
        with durable.scratch(tmp_path, "work") as other:
            assert names(tmp_path) == sorted([living.name, other.name])
        with durable.scratch(tmp_path, "other"):
            assert living.is_dir()
    assert names(tmp_path) == []


def test_nothing_is_followed_out_of_the_folder(tmp_path):
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir(), inside.mkdir()
    (outside / "mine").write_text("mine")
    (inside / ".work-link").symlink_to(outside)
    (inside / ".a.part").symlink_to(outside / "mine")
    durable.clear(inside, ".work-*")
    with pytest.raises(OSError):
        durable.write_whole(inside / "a", b"x")
    assert (outside / "mine").read_text() == "mine"


def test_a_file_that_another_holds_is_told_at_once(tmp_path):
    handle = durable.take(tmp_path / "a")
    with pytest.raises(BlockingIOError):
        durable.take(tmp_path / "a", wait=False)
    os.close(handle)
    os.close(durable.take(tmp_path / "a", wait=False))


def test_folders_that_are_made_at_once_do_not_take_each_other_for_left_over(tmp_path, monkeypatch):
    real = tempfile.mkdtemp
    removed: list[str] = []

    def removed_at_once(**where):
        made = real(**where)
        if not removed:
            # As another does that clears up between two calls here.
            durable.clear(tmp_path, ".work-*")
            removed.append(made)
        return made

    monkeypatch.setattr(tempfile, "mkdtemp", removed_at_once)
    with durable.scratch(tmp_path, "work") as folder:
        assert folder.is_dir() and str(folder) not in removed
