"""Both wheels of this tree, and environments outside the checkout in which they are installed, made without a network."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Wheels:
    """The files of the two distributions."""

    client: Path
    full: Path


@dataclass(frozen=True)
class Installed:
    """A virtual environment in `folder`."""

    folder: Path

    def run(self, program: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in its folder, with no variables but HOME, PATH and those given."""
        return subprocess.run(
            [self.folder / "bin" / program, *map(str, arguments)],
            env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"} | variables,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )


def build(folder: Path) -> Wheels:
    """Build both wheels into `folder`, with the build backend that is installed here."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    _pip(sys.executable, "wheel", *options, ROOT / "packaging" / "client", ROOT)
    (client,) = folder.glob("ltx_farm_client-*.whl")
    (full,) = folder.glob("ltx_farm-*.whl")
    return Wheels(client, full)


def install_client(wheels: Wheels, folder: Path) -> Installed:
    """Make an environment with the client's wheel and what it declares to need, that in turn too, and nothing else."""
    return _install(folder, wheels.client)


def install_full(wheels: Wheels, folder: Path) -> Installed:
    """Make an environment with both wheels and what they declare to need, that in turn too, and nothing else."""
    return _install(folder, wheels.client, wheels.full)


def _install(folder: Path, *wheels: Path) -> Installed:
    """Install the wheels, and link what they need from the environment of the tests: installing torch takes minutes."""
    packages = _environment(folder, *wheels)
    ours = list(importlib.metadata.distributions(path=[str(packages)]))
    names = {canonicalize_name(one.name) for one in ours}
    requirements = [text for one in ours for text in one.requires or ()]
    for distribution in _needed(
        text for text in requirements if canonicalize_name(Requirement(text).name) not in names
    ):
        # Scripts lie outside, and __pycache__ holds what Python compiled for several distributions.
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            # A folder that several distributions share is one folder there too.
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    return Installed(folder)


def _environment(folder: Path, *wheels: Path) -> Path:
    """Make an environment with these wheels alone. Returns the folder of its packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    _pip(folder / "bin" / "python", "install", "--quiet", "--no-index", "--no-deps", *wheels)
    (packages,) = folder.glob("lib/python*/site-packages")
    return packages


def _pip(python: str | Path, *arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, *arguments]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _needed(requirements: Iterable[str]) -> list[importlib.metadata.Distribution]:
    """All distributions that satisfy the requirements and what those require in turn. Fails where one isn't installed."""
    found: dict[str, importlib.metadata.Distribution] = {}
    # An extra brings requirements of its own.
    left = [(requirement, "") for requirement in map(Requirement, requirements)]
    while left:
        requirement, extra = left.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        distribution = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(distribution.version, prereleases=True), requirement
        name = canonicalize_name(requirement.name)
        if name not in found or requirement.extras:
            found[name] = distribution
            further = [Requirement(one) for one in distribution.requires or ()]
            left += [(one, extra) for one in further for extra in ("", *requirement.extras)]
    return list(found.values())
