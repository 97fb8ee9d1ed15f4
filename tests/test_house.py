"""The house keeps its shape: imports point one way, light rooms stay light, generated code is fresh."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("farm", "scheduler", "nodeagent", "plugins")
ALLOWED = {
    "farm": {"farm"},
    "scheduler": {"farm", "scheduler"},
    "nodeagent": {"farm", "nodeagent"},
    "plugins": {"farm", "plugins"},
}


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_imports_between_packages_point_one_way():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _modules()
        if path != ROOT / "farm" / "daemon.py"
        for name in _imports(path)
        if name.split(".")[0] in PACKAGES
        and name.split(".")[0] not in ALLOWED[path.relative_to(ROOT).parts[0]]
    ]
    assert not wrong


def test_one_function_alone_starts_python():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _modules()
        if path != ROOT / "farm" / "children.py"
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
