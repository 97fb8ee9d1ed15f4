"""The programs when they are started on a disk without room: one sentence that names a file, and status 1."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from farm import durable
from farm.damaged_files import is_of_files, of_system
from farm.store.store import Store
from farm.wire.security import Authority, ray_token_file
from tests.full_disk import run_on_a_full_disk

COMMANDS = Path(sys.executable).parent
NO_ROOM = "No space left on device; make room on its disk, and try again"


@pytest.fixture
def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FARM_")}
    return kept | {"PATH": f"{COMMANDS}:{os.environ['PATH']}"}


@pytest.mark.parametrize("command", ["farmd --listen 127.0.0.1:0", "farmctl up --detach"])
def test_a_new_home_on_a_full_disk_is_refused_in_a_sentence_with_the_file(tmp_path, environment, command):
    home = tmp_path / "disk" / "home"
    done = run_on_a_full_disk(home.parent, f"{command} --home {home}", environment=environment)
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert last.startswith(f"{command.split()[0]}: ") and str(home) in done.stderr and NO_ROOM in done.stderr


def test_a_farm_that_has_run_says_that_its_database_is_away_and_that_it_is_to_be_started_again(
    tmp_path, environment
):
    made, disk = tmp_path / "made", tmp_path / "disk"
    Authority.open(made).write_profile("127.0.0.1:1")
    ray_token_file(made)
    Store.lead(f"sqlite:///{made}/farm.db", "test").close()
    done = run_on_a_full_disk(
        disk, f"farmd --home {disk}/made --listen 127.0.0.1:0", f"cp -a {made} {disk}", environment
    )
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert line.startswith("farmd: database: can't be used now (") and "start farmd again once it can" in line
    assert "by itself" not in line, "a farmd that ends goes on with nothing"


def test_whatever_can_not_be_written_whole_is_named(tmp_path):
    look = f"""
from pathlib import Path
from farm import durable
for path in (Path("{tmp_path}/disk/a"), Path("{tmp_path}/disk/new/b")):
    try:
        durable.write_whole(path, b"x" * 10_000)
    except OSError as error:
        print(error.errno, error.filename == str(path) or str(path.parent) in error.filename)
"""
    (tmp_path / "look.py").write_text(look)
    done = run_on_a_full_disk(tmp_path / "disk", f"{sys.executable} {tmp_path}/look.py",
                              environment=dict(os.environ) | {"PYTHONPATH": os.getcwd()})  # fmt: skip
    assert done.stdout == f"{errno.ENOSPC} True\n" * 2, done.stderr


def test_a_process_whose_log_lies_on_a_full_disk_goes_on(tmp_path):
    (tmp_path / "look.py").write_text(f"""
from pathlib import Path
import structlog
from farm import log_file, logs
log_file.LogFile.__init__.__defaults__ = (100,)
logs.configure_logs("info", "text", "renderer", file=Path("{tmp_path}/disk/a.log"))
for number in range(100):
    structlog.get_logger().info(f"line {{number}}", why="x" * 1000)
print("went on")
""")
    done = run_on_a_full_disk(tmp_path / "disk", f"{sys.executable} {tmp_path}/look.py",
                              environment=dict(os.environ) | {"PYTHONPATH": os.getcwd()})  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "make room on its disk, and try again"),
        (errno.EDQUOT, "make room in this user's share of its disk, and try again"),
        (errno.EIO, "look at its disk, and try again"),
        (errno.EROFS, "mount its disk for writing, and try again"),
    ],
)
def test_a_disks_error_says_what_to_do_with_the_file_and_without(number, told):
    for file in ((), ("/srv/x",)):
        error = OSError(number, os.strerror(number), *file)
        assert is_of_files(error) and of_system(error).endswith(told)
        assert of_system(error).startswith("/srv/x: " if file else os.strerror(number))


def test_an_error_that_is_no_files_keeps_its_traceback():
    assert not is_of_files(ConnectionResetError(errno.ECONNRESET, "reset"))
    assert is_of_files(PermissionError(errno.EACCES, "denied", "/srv/x"))


def test_an_error_that_names_a_file_keeps_its_name(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError) as refused:
        durable.write_whole(tmp_path / "file" / "a", b"x")
    assert refused.value.filename.startswith(str(tmp_path / "file"))
