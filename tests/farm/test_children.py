"""A child of the farm imports what this Python imports, wherever it is called."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm.children import child_environment, python_command
from farm.ray_process import ray_environment
from tests.traps import lay_traps, sprung


@pytest.mark.parametrize("path", [None, "", ":", ".", "farm/..", "::/nowhere:"])
def test_a_child_imports_nothing_from_the_folder_it_runs_in(tmp_path, path):
    lay_traps(tmp_path)
    given = dict(os.environ) | ({} if path is None else {"PYTHONPATH": path})
    done = subprocess.run(
        python_command("nodeagent.flops"),
        env=child_environment(given),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and float(done.stdout) > 0, done.stderr
    assert sprung(tmp_path) == []


def test_the_traps_are_sprung_by_a_python_that_looks_into_the_current_folder(tmp_path):
    lay_traps(tmp_path)
    command = [part for part in python_command("nodeagent.flops") if part != "-P"]
    assert subprocess.run(command, cwd=tmp_path, check=False, capture_output=True).returncode != 0
    assert sprung(tmp_path)


@given(st.lists(st.sampled_from(["", ".", "..", "lib", "/opt/lib", "/a b", "~"]), max_size=6))
def test_pythonpath_keeps_its_absolute_folders_in_order_and_nothing_else(entries):
    kept = child_environment({"PYTHONPATH": os.pathsep.join(entries), "HOME": "/root"})
    wanted = [entry for entry in entries if entry.startswith("/")]
    assert kept.get("PYTHONPATH", "").split(os.pathsep) == (wanted or [""])
    assert ("PYTHONPATH" in kept) == bool(wanted) and kept["HOME"] == "/root"


def test_what_is_for_a_person_who_types_python_reaches_no_child(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONSTARTUP", "start.py")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.setenv("PYTHONPATH", ".")
    for environment in (child_environment(), ray_environment("127.0.0.1", tmp_path / "token")):
        assert not {"PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONPATH"} & set(environment)
