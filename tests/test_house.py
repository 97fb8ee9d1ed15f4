"""The house keeps its shape: imports point one way, light rooms stay light, generated code is fresh."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
BELOW = {
    "farm": set(),
    "scheduler": {"farm"},
    "renderer": {"farm"},
    "plugins": {"farm"},
    "farmd": {"farm", "scheduler"},
    "nodeagent": {"farm", "renderer"},
}
"""What each installed package may import besides itself."""

BELOW_SCRIPTS = {
    "training": set(BELOW),
    "benchmarks": {*BELOW, "training", "tests", "ltx_video"},
}
"""The same for what runs from the checkout alone."""

ABOVE = {"benchmarks", "tests", "training", "ltx_video"}
"""What no installed package may import: it isn't installed. `ltx_video` is Lightricks' own code, which tests compare with."""

FOR_BENCHMARKS = {"tests.farm_processes", "tests.postgres_server", "tests.pythons"}
"""What benchmarks take from the tests: databases, Pythons, and what they look for in a farm."""

SERVER_ROOMS = (
    "farm/store",
    "farm/processes",
    "farm/artifacts.py",
    "farm/logs.py",
    "farm/wire/certificates.py",
)
"""Rooms of `farm` that run on servers and workstations only; their requirements come with ltx-farm, not with the client."""

TWINS = {
    "InvalidSpec": "the client's is the spec's, as an error of the farm",
    "NotFound": "the store's error, and what the client raises when the farm answers with it",
}
"""Classes of one name in two rooms, and why the name stands for one thing."""

PURE_FOLDERS = ("farm/policy", "scheduler/planning", "scheduler/placement")
IMPURE = {"sqlalchemy", "grpc", "ray", "torch"}
CLOCKS = {"time", "datetime"}
MESSAGES = ("farm.v1", "google.protobuf", "grpc")
"""Names of modules that make or carry the API's messages begin with these."""


def _package(path: Path) -> str:
    return path.relative_to(ROOT).parts[0]


def _module(path: Path) -> str:
    """Return the name by which others import a file. Scripts in benchmarks import what lies beside them."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__").removeprefix("benchmarks.")


def _imports(path: Path, *, types_too: bool = True) -> set[str]:
    """All that a file imports, inside functions too, as the longest dotted names that are modules here."""
    tree = ast.parse(path.read_text())
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if not types_too and node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                name if name in MODULES else node.module
                for name in (f"{node.module}.{alias.name}" for alias in node.names)
            }
    return found


def _modules() -> list[Path]:
    """Return the files of all installed packages."""
    return [path for package in BELOW for path in sorted((ROOT / package).rglob("*.py"))]


def _scripts() -> list[Path]:
    return [path for folder in BELOW_SCRIPTS for path in sorted((ROOT / folder).rglob("*.py"))]


MODULES = {_module(path): path for path in [*_modules(), *_scripts()]}


def test_imports_between_packages_point_down():
    below = BELOW | BELOW_SCRIPTS
    wrong = []
    for module, path in MODULES.items():
        others = (set(below) | ABOVE) - below[_package(path)] - {_package(path)}
        wrong += [f"{module} imports {name}" for name in _imports(path) if name.split(".")[0] in others]
    assert not wrong


def test_benchmarks_take_equipment_from_the_tests_and_nothing_else():
    taken = {name for path in _scripts() for name in _imports(path) if name.split(".")[0] == "tests"}
    assert taken == FOR_BENCHMARKS


def test_no_files_import_each_other_in_a_circle():
    graph = {
        module: {name for name in _imports(path, types_too=False) if name in MODULES and name != module}
        for module, path in MODULES.items()
    }
    graphlib.TopologicalSorter(graph).prepare()


_SAYS_PURE = re.compile(r"\bPure\b|\bmodule\s+is\s+pure\b")


def _pure() -> list[str]:
    return [
        module
        for module, path in MODULES.items()
        if str(path.relative_to(ROOT)).startswith(PURE_FOLDERS)
        or _SAYS_PURE.search(ast.get_docstring(ast.parse(path.read_text())) or "")
    ]


def test_rooms_that_say_pure_in_other_words_are_held_to_it():
    pure = set(_pure())
    assert {"farm.states", "farmd.contradictions", "nodeagent.owner.owner", "virtual_work"} <= pure
    # Whose planner is pure, and whose noise is a pure function.
    assert not {"farmd.intake", "plugins.ltx.noise"} & pure


def _loaded(modules: list[str]) -> set[str]:
    """Return all modules that a process has loaded once it has imported `modules`."""
    code = (
        "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)\nprint(*sys.modules)"
    )
    # As a script of benchmarks finds what lies beside it.
    paths = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")])
    told = subprocess.run(
        [sys.executable, "-c", code, *modules],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(told.stdout.split())


def test_pure_rooms_load_no_database_network_ray_or_torch():
    modules = _pure()
    assert len(modules) > 30
    assert not IMPURE & _loaded(modules)


def test_pure_rooms_read_no_clock():
    wrong = [
        f"{module} imports {name}"
        for module in _pure()
        for name in _imports(MODULES[module])
        if name.split(".")[0] in CLOCKS or name == "farm.clock"
    ]
    assert not wrong


def test_the_scheduler_knows_no_message_of_the_api():
    """`scheduler/dispatch/ray` is left out: it talks to its own process, the bridge, with messages of their own."""
    modules = [
        module
        for module in MODULES
        if module.startswith("scheduler.") and not module.startswith("scheduler.dispatch.ray")
    ]
    assert "scheduler.dispatch.loop" in modules
    imported = {name for module in modules for name in _imports(MODULES[module])}
    assert not {name for name in imported | _loaded(modules) if name.startswith(MESSAGES)}


def test_a_name_of_a_class_stands_for_one_thing():
    rooms: dict[str, list[str]] = {}
    for path in _modules():
        if "v1" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                rooms.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in rooms.items() if len(places) > 1}
    assert twice.keys() == TWINS.keys(), f"rename one of two classes: {twice}"


def _declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def test_every_package_that_a_distribution_imports_is_one_of_its_requirements():
    client = tomllib.loads((ROOT / "packaging" / "client" / "pyproject.toml").read_text())
    full = tomllib.loads((ROOT / "pyproject.toml").read_text())
    of_client = _declared(client["project"]["dependencies"])
    of_full = _declared(full["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"])
    makers = importlib.metadata.packages_distributions()
    undeclared = []
    for path in _modules():
        file = str(path.relative_to(ROOT))
        alone = _package(path) == "farm" and not file.startswith(SERVER_ROOMS)
        declared = of_client if alone else of_client | of_full
        for name in {name.split(".")[0] for name in _imports(path, types_too=False)}:
            ours = name in BELOW or name in sys.stdlib_module_names
            if not ours and not declared & {canonicalize_name(maker) for maker in makers.get(name, [])}:
                undeclared.append(f"{file} imports {name}")
    assert not undeclared


def test_one_function_alone_starts_python():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _modules()
        if path != ROOT / "farm" / "processes" / "children.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable")
        or (isinstance(node, ast.List) and any(ast.unparse(one) == "'-m'" for one in node.elts))
        or (isinstance(node, ast.Call) and any(ast.unparse(one) == "'-m'" for one in node.args))
    ]
    assert not wrong, (
        "use farm.processes.children.python_command, so that nothing is imported from the current folder"
    )


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("farm.spec", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("farm.states", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("scheduler.planning.windows", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("scheduler.planning.plan", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("scheduler.placement.place", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("scheduler.planning.without_effect", {"sqlalchemy", "grpc", "ray", "torch"}),
        ("farm.media.file_kinds", {"PIL", "av", "numpy"}),
        ("farm.media.ignored", {"PIL", "av", "numpy"}),
        ("farm.client", {"sqlalchemy", "ray", "torch", "av", "PIL"}),
        ("farm.cli", {"sqlalchemy", "ray", "torch"}),
        ("farmd.main", {"ray", "torch"}),
        ("nodeagent.agent", {"sqlalchemy", "ray", "torch"}),
        ("renderer.renderer", {"torch"}),
    ],
)
def test_light_rooms_import_nothing_heavy(module, forbidden):
    code = f"import sys, {module}; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not forbidden & set(loaded)


def test_the_daemon_loads_every_planning_plugin_without_torch():
    code = (
        "import sys; from farm.plugins import catalogue, planning_plugins; p = planning_plugins();"
        "c = catalogue(p); c.models['ltx-tiny'].sigmas(8); assert 'plugins.outputs.mp4' not in sys.modules;"
        "assert p.hook.farm_open_joining(output='mp4'); print(*sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "torch" not in loaded and "plugins.ltx.planning" in loaded


def test_generated_code_is_fresh(tmp_path):
    subprocess.run([sys.executable, ROOT / "proto" / "generate.py", tmp_path], check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "farm" / "v1").iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / "farm" / "v1").glob("*_pb2*")}
    assert made and made == committed, "run `make proto` and commit the result"


_MEMBER = re.compile(r"(rpc \w+|(?:(?:optional |repeated )?(?:map<[^>]*>|[\w.]+) +)?\w+ = \d+;)")


def test_every_call_field_and_value_of_the_api_is_explained():
    silent = []
    for path in sorted((ROOT / "proto" / "farm" / "v1").glob("*.proto")):
        lines = [line.strip() for line in path.read_text().splitlines()]
        assert lines[0].startswith("//"), f"{path.name} must say what lives in it"
        silent += [
            f"{path.name}:{number}: {line}"
            for number, (before, line) in enumerate(itertools.pairwise(lines), 2)
            if _MEMBER.match(line) and not before.startswith("//") and "_UNSPECIFIED" not in line
        ]
    assert not silent


def test_tests_are_run_in_the_stream_they_belong_to(request):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("this is one stream")
    assert request.node.nodeid.endswith("@tests/test_house.py"), (
        "pytest and xdist don't understand each other"
    )
