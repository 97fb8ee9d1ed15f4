"""A folder full of modules that nobody may import: what a person may have beside their clips."""

from __future__ import annotations

from pathlib import Path

_PACKAGES = ("farm", "nodeagent", "scheduler", "plugins", "ray", "grpc")
_MODULES = (
    "json",
    "torch",
    "av",
    "click",
    "numpy",
    "asyncio",
    "sitecustomize",
    "usercustomize",
    "psutil",
    "signal",
)
_TRAP = """\
import os
os.close(os.open({sprung!r} + "-" + __name__, os.O_CREAT | os.O_WRONLY))
raise ImportError(__name__ + " was imported from the current folder")
"""
_ENTRY_POINTS = "[farm.planning]\ntrap = planning_trap\n\n[farm.rendering]\ntrap = rendering_trap\n"


def lay_traps(folder: Path) -> Path:
    """Fills `folder` with packages, modules and a plugin that leave a file when they are imported. Returns it."""
    code = _TRAP.format(sprung=str(folder / "sprung"))
    for package in _PACKAGES:
        (folder / package).mkdir(parents=True, exist_ok=True)
        (folder / package / "__init__.py").write_text(code)
    for module in (*_MODULES, "planning_trap", "rendering_trap"):
        (folder / f"{module}.py").write_text(code)
    plugin = folder / "trap-1.0.dist-info"
    plugin.mkdir(exist_ok=True)
    (plugin / "METADATA").write_text("Metadata-Version: 2.1\nName: trap\nVersion: 1.0\n")
    (plugin / "entry_points.txt").write_text(_ENTRY_POINTS)
    return folder


def sprung(folder: Path) -> list[str]:
    """Returns the names of the modules that were imported from `folder`."""
    return sorted(file.name.removeprefix("sprung-") for file in folder.glob("sprung-*"))
