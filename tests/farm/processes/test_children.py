"""A child of the farm imports what this Python imports, wherever it is called."""

from __future__ import annotations

import os
import shutil
import site
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

ROOT = Path(__file__).parents[3]


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
    done = subprocess.run(
        [Path(sys.executable).parent / command, "--version"],
        env=dict(os.environ) | {"PYTHONPATH": str(tmp_path), "PYTHONUSERBASE": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{command}, version {__version__}\n"), done.stderr
    assert sprung(tmp_path) == []


def _script_outside(folder: Path) -> Path:
    """farmctl in the folder `bin` of no virtual environment."""
    script = folder / "bin" / "farmctl"
    script.parent.mkdir(parents=True)
    shutil.copy(ROOT / "packaging" / "programs" / "farmctl", script)
    return script


def _base_python() -> Path:
    """The Python that this environment was made of."""
    return Path(sys.base_prefix) / "bin" / "python3"


def test_a_farm_that_pythonpath_alone_finds_says_so(tmp_path):
    """As Rez and Lmod make it found, and `pip install --target`."""
    script = _script_outside(tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    (tmp_path / "bin" / "readlink").symlink_to("/usr/bin/readlink")
    paths = os.pathsep.join([str(ROOT), *(path for path in sys.path if path.endswith("-packages"))])
    done = subprocess.run(
        [script, "--version"],
        env={"PATH": f"{tmp_path}/bare/bin:{tmp_path}/bin", "HOME": str(tmp_path), "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(
        "farmctl: no Python in PATH has the farm installed. PYTHONPATH is not searched"
    )


def test_a_farm_among_the_users_own_packages_is_found_by_its_programs_and_their_children(tmp_path):
    """As `pip install --user` puts it there."""
    script, traps = _script_outside(tmp_path / ".local"), lay_traps(tmp_path / "traps")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    own = tmp_path / ".local" / "lib" / version / "site-packages"
    own.mkdir(parents=True)
    shutil.copytree(ROOT / "farm", own / "farm", ignore=shutil.ignore_patterns("__pycache__"))
    (own / "all-else.pth").write_text("".join(f"{one}\n" for one in site.getsitepackages()))
    python = _base_python()
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(traps)}

    def output(*command: str | Path) -> str:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert output(script, "--version") == f"farmctl, version {__version__}\n"
    child = "from farm.processes.children import child_environment; print('PYTHONNOUSERSITE' in child_environment())"
    assert output(python, "-EP", "-c", child) == "False\n"
    assert sprung(traps) == []
