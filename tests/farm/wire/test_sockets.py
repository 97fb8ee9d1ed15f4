"""Sockets fit their addresses."""

from __future__ import annotations

import os
import shutil

from farm.wire.sockets import LONGEST, remove_socket, socket_path


def test_a_socket_lies_in_its_home(tmp_path):
    assert socket_path(tmp_path, "a.sock") == tmp_path / "run" / "a.sock"


def test_a_socket_fits_its_address_however_deep_the_home_is(tmp_path):
    deep = [socket_path(tmp_path / ("n" * 150) / str(number), "a.sock") for number in range(2)]
    try:
        assert deep[0] != deep[1]
        assert all(len(os.fsencode(path)) <= LONGEST for path in deep)
        assert all(path.parent.stat().st_mode & 0o777 == 0o700 for path in deep)
    finally:
        for path in deep:
            shutil.rmtree(path.parent)


def test_the_last_socket_to_go_takes_its_folder_along(tmp_path):
    home = tmp_path / ("n" * 150)
    first, second = (socket_path(home, name) for name in ("a.sock", "b.sock"))
    first.touch()
    second.touch()
    remove_socket(first)
    assert not first.exists() and second.exists()
    remove_socket(second)
    remove_socket(second)
    assert not second.parent.exists()
