"""The two distributions: what their wheels hold, and that each works in an environment outside the checkout."""

from __future__ import annotations

import configparser
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from farm import __version__
from tests.distributions import ROOT, Installed, Wheels, install_full
from tests.traps import lay_traps, sprung

TINY = "plugins/ltx/reference/ltx-tiny/transformer/diffusion_pytorch_model.safetensors"
_HELP_OF_EVERY_VERB = """
import json
import click
from click.testing import CliRunner
from farm.cli import main

def helps(command, words):
    done = CliRunner().invoke(main, [*words, "--help"])
    yield " ".join(words), done.exit_code, done.output
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            yield from helps(command.get_command(None, name), [*words, name])

print(json.dumps(list(helps(main, []))))
"""


@pytest.fixture(scope="module")
def full(wheels: Wheels, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An environment with both wheels."""
    return install_full(wheels, tmp_path_factory.mktemp("full") / "env")


def _names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def _read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(ending))
        return archive.read(name).decode()


def _in_tree(*packages: str) -> set[str]:
    """Files of these packages in the checkout, without what Python has compiled."""
    files = (file for package in packages for file in (ROOT / package).rglob("*") if file.is_file())
    return {str(file.relative_to(ROOT)) for file in files if "__pycache__" not in file.parts}


def _top(names: set[str]) -> set[str]:
    return {name.split("/")[0] for name in names if ".dist-info/" not in name and ".data/" not in name}


def test_the_clients_wheel_puts_one_package_at_top_level(wheels):
    names = _names(wheels.client)
    assert {name for name in names if name.startswith("farm/")} == _in_tree("farm") and _top(names) == {
        "farm"
    }
    assert [name for name in names if ".data/" in name] == [
        f"ltx_farm_client-{__version__}.data/scripts/farmctl"
    ]
    assert "farm/py.typed" in names


def test_the_full_wheel_holds_all_other_packages_and_the_weights_of_ltx_tiny(wheels):
    packages = ("farmd", "nodeagent", "plugins", "renderer", "scheduler")
    names = _names(wheels.full)
    assert _top(names) == set(packages) and TINY in names
    assert {name for name in names if name.startswith(tuple(f"{one}/" for one in packages))} == _in_tree(
        *packages
    )
    scripts = f"ltx_farm-{__version__}.data/scripts"
    assert {name for name in names if ".data/" in name} == {f"{scripts}/farmd", f"{scripts}/farm-node"}
    points = configparser.ConfigParser()
    points.read_string(_read(wheels.full, "entry_points.txt"))
    assert set(points.sections()) == {"farm.planning", "farm.rendering"}


def test_no_wheel_holds_what_is_not_installed(wheels):
    for name in _names(wheels.client) | _names(wheels.full):
        assert not {"training", "tests", "benchmarks"} & set(name.split("/")), name


def test_both_have_one_version_one_licence_and_no_file_in_common(wheels):
    for wheel in (wheels.client, wheels.full):
        assert f"\nVersion: {__version__}\n" in _read(wheel, "/METADATA")
        assert _read(wheel, "/licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert f"\nRequires-Dist: ltx-farm-client=={__version__}\n" in _read(wheels.full, "/METADATA")
    assert not _names(wheels.client) & _names(wheels.full)


def test_installed_for_development_both_are_the_checkout(tmp_path):
    code = "import farm, farmd, nodeagent; print(farm.__file__, farmd.__file__, nodeagent.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(ROOT / one / "__init__.py") for one in ("farm", "farmd", "nodeagent")]


def test_the_client_is_imported_without_what_only_servers_need(client_alone):
    code = "import farm.client, importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    heavy = ("torch", "ray", "diffusers", "transformers", "sqlalchemy", "alembic", "psycopg")
    server = ("farmd", "nodeagent", "plugins", "renderer", "scheduler", "tests")
    done = client_alone.run("python", "-I", "-c", code, *heavy, *server)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_every_verb_of_the_client_alone_has_help(client_alone):
    done = client_alone.run("python", "-I", "-c", _HELP_OF_EVERY_VERB)
    assert done.returncode == 0, done.stderr
    helps = json.loads(done.stdout)
    assert {"", "up", "demo", "db backup", "submit extend"} <= {words for words, _, _ in helps}
    assert [words for words, code, told in helps if code or "Usage: " not in told] == []


@pytest.mark.parametrize("line", ["up", "down", "demo", "db upgrade", "db backup a.db", "db restore a.db"])
def test_a_verb_that_needs_the_full_distribution_says_what_to_install(client_alone, line):
    done = client_alone.run("farmctl", *line.split())
    verb = " ".join(line.split()[:2]).removesuffix(" a.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"farmctl: `farmctl {verb}` needs the package ltx-farm, but only ltx-farm-client is installed; install "
        f"ltx-farm {__version__} into a separate Python environment\n"
    )


def test_the_client_alone_says_what_joins_segments(client_alone):
    code = "from farm.client import delivery; delivery._joining('mp4')"
    done = client_alone.run("python", "-I", "-c", code)
    told = "no plugin on this machine joins segments of the format 'mp4'; install ltx-farm here\n"
    assert done.returncode == 1 and done.stderr.endswith(f"FarmError: {told}")


def test_the_clients_farmctl_takes_nothing_from_pythonpath(client_alone, tmp_path):
    lay_traps(tmp_path)
    done = client_alone.run("farmctl", "--version", PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, f"farmctl, version {__version__}\n"), done.stderr
    assert sprung(tmp_path) == []


def test_types_of_the_installed_client_are_checked(client_alone, tmp_path):
    (tmp_path / "studio.py").write_text(
        "from farm.client import FarmClient\n\n\n"
        "def states(farm: FarmClient, name: str) -> list[int]:\n"
        "    return [farm.job(name).job.state, *(job.state for job in farm.jobs())]\n\n\n"
        "def wrong(farm: FarmClient) -> None:\n"
        "    farm.download(3)\n"
    )
    python = client_alone.folder / "bin" / "python"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "studio.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    *errors, _ = done.stdout.splitlines()
    assert errors and all(line.startswith("studio.py:9: error: ") for line in errors), done.stdout


@pytest.mark.parametrize("program", ["farmctl", "farmd", "farm-node"])
def test_the_full_distribution_has_all_programs(full, program):
    done = full.run(program, "--version")
    assert (done.returncode, done.stdout) == (0, f"{program}, version {__version__}\n"), done.stderr


def test_the_full_distribution_is_not_the_checkout(full):
    done = full.run("python", "-I", "-c", "import farm, farmd, plugins; print(farm, farmd, plugins)")
    assert done.stdout.count(str(full.folder)) == 3 and str(ROOT) not in done.stdout, (
        done.stdout + done.stderr
    )


def test_the_full_distribution_is_tried_without_what_only_tests_need(full):
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    done = full.run(
        "python", "-I", "-c", code, "pytest", "hypothesis", "einops", "grpc_tools", "ltx_video", "mypy"
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_full_distribution_makes_a_database(full):
    done = full.run("farmctl", "db", "--home", full.folder / "home", "upgrade")
    assert done.returncode == 0 and "the farm's database has schema" in done.stdout, done.stderr


@pytest.mark.long
def test_the_full_distribution_renders(full):
    done = full.run("farmctl", "demo", "--nodes", 1, "--frames", 9, "--size", "64x64", "-o", "demo.mp4")
    assert done.returncode == 0 and "demo.mp4: 9 frames" in done.stdout, done.stdout + done.stderr
    assert (full.folder / "demo.mp4").stat().st_size > 0
