"""A child of the farm imports what this Python imports, wherever it is called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farm import __version__
from farm.processes.children import child_environment, python_command
from farm.processes.ray_process import ray_environment
from tests.traps import lay_traps, sprung


@pytest.mark.parametrize("path", [None, "", ":", ".", "farm/..", "::/nowhere:", "{traps}"])
def test_a_child_imports_nothing_that_is_not_installed(tmp_path, path):
    lay_traps(tmp_path)
    given = dict(os.environ) | ({} if path is None else {"PYTHONPATH": path.format(traps=tmp_path)})
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


@given(
    st.dictionaries(
        st.sampled_from(["PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHON", "PATH", "HOME"]), st.text()
    )
)
def test_no_variable_of_the_callers_python_reaches_a_child(given):
    kept = child_environment(given)
    ours = {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    assert kept == ours | {name: value for name, value in given.items() if name in ("PATH", "HOME")}


def test_nor_a_process_that_talks_ray(monkeypatch, tmp_path):
    for name in ("PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    environment = ray_environment("127.0.0.1", tmp_path / "token")
    assert not {"PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONPATH"} & set(environment)


@pytest.mark.parametrize("command", ["farmctl", "farmd", "farm-node"])
def test_the_commands_run_where_the_callers_pythonpath_has_packages_of_the_same_names(tmp_path, command):
    lay_traps(tmp_path)
    # It is run by Python before anything else could be.
    (tmp_path / "sitecustomize.py").unlink()
    done = subprocess.run(
        [Path(sys.executable).parent / command, "--version"],
        env=dict(os.environ) | {"PYTHONPATH": str(tmp_path), "PYTHONUSERBASE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{command}, version {__version__}\n"), done.stderr
    assert sprung(tmp_path) == []


def test_a_farm_that_pythonpath_alone_finds_says_so(tmp_path):
    """As Rez and Lmod make it found, and `pip install --target`."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    (tmp_path / "farmctl").write_text("import ltx_farm\nltx_farm.farmctl()\n")
    paths = os.pathsep.join([str(root), *(path for path in sys.path if path.endswith("-packages"))])
    done = subprocess.run(
        [tmp_path / "bare" / "bin" / "python", tmp_path / "farmctl", "--version"],
        env=dict(os.environ) | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"farmctl: the farm is found at {root} through PYTHONPATH")
