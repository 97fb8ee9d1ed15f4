"""Plugins are found by entry point, ours and anybody's."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from farm.plugins import PluginConflict, catalogue, planning_plugins

MODULE = """
from farm.hookspecs import hookimpl
from plugins.strategies.autoregressive import Autoregressive


class Rushed(Autoregressive):
    name = {name!r}
    summary = "a third party's"


@hookimpl
def farm_strategies():
    return [Rushed()]
"""


@pytest.fixture
def installed(tmp_path):
    """Installs a throw-away package with pip and returns the folder it is in."""

    def install(strategy: str) -> Path:
        wheel = tmp_path / "rushed-1.0-py3-none-any.whl"
        info = "rushed-1.0.dist-info"
        files = {
            "rushed.py": MODULE.format(name=strategy),
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: rushed\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[farm.planning]\nrushed = rushed\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{info}/RECORD"))
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        target = tmp_path / "site"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target"]
        subprocess.run([*command, target, wheel], check=True)
        return target

    return install


def _strategies(site: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from farm.plugins import catalogue, planning_plugins\n"
        "print(*catalogue(planning_plugins()).strategies)"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_an_installed_third_party_package_is_found(installed):
    found = _strategies(installed("rushed"))
    assert set(found.stdout.split()) == {"autoregressive", "codenoise", "hierarchical", "rushed"}


def test_two_plugins_of_one_name_are_refused_with_that_name(installed):
    found = _strategies(installed("hierarchical"))
    assert found.returncode != 0
    assert PluginConflict.__name__ in found.stderr and "named 'hierarchical'" in found.stderr


def test_the_built_in_plugins_are_plugins_like_any_other():
    found = {plugin.name for plugin in entry_points(group="farm.planning")}
    assert {"ltx", "strategies", "outputs"} <= found
    offers = catalogue(planning_plugins())
    assert "ltx-tiny" in offers.models and "mp4" in offers.outputs
