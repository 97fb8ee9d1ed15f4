"""The README's lines work when pasted: each command exists with its verbs and options, and the farm can be called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from farm import __version__
from farm.cli import main as farmctl
from farmd.main import main as farmd
from nodeagent.agent import main as farm_node

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"docs/{name}.md" for name in ("use", "options", "server", "nodes", "owners", "models", "long-video")),
)
PROGRAMS = {"farmctl": farmctl, "farmd": farmd, "farm-node": farm_node}
OTHERS = {".venv/bin/python", "export", "grep", "mkdir", "test", "printf", "hf", "sort", "sudo"}
_BLOCK = re.compile(r"(?:^ {4}\S.*\n(?:(?: {4}.*)?\n)*)+", re.MULTILINE)
_OF_OURS = re.compile(r"`((?:farmctl|farmd|farm-node|make) [^`]+)`")


def blocks(page: str) -> list[list[str]]:
    """The indented blocks of a page, each as its lines of shell; what quotes hold together is one line."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    # Fenced blocks are of other languages.
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [_lines(found[0]) for found in _BLOCK.finditer(text)]


def _lines(block: str) -> list[str]:
    found: list[str] = []
    left = ""
    for line in block.splitlines():
        left += line.strip()
        try:
            shlex.split(left, comments=True)
        except ValueError:
            left += "\n"
            continue
        found += [left] if left else []
        left = ""
    assert not left, f"a quotation is not closed: {left}"
    return found


def commands(line: str) -> list[list[str]]:
    """The commands of a line, each as its words, without what redirects them."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split, words.commenters = True, "#"
    found: list[list[str]] = [[]]
    for word in words:
        if set(word) <= set("<>"):
            next(words)
        elif set(word) <= set(";&|()"):
            found.append([])
        else:
            found[-1].append(word)
    return [command for command in found if command]


LINES = sorted({(page, line) for page in PAGES for block in blocks(page) for line in block})
SAID = sorted(
    {
        (page, said.replace("\n", " "))
        for page in PAGES
        for said in _OF_OURS.findall((ROOT / page).read_text())
    }
)


def parse(command: click.Command, arguments: list[str]) -> None:
    """Raises click.UsageError for what farmctl would refuse before it does anything."""
    context = command.make_context(command.name, list(arguments))
    with context:
        if isinstance(command, click.Group):
            left = [*context._protected_args, *context.args]
            if not left:
                raise click.UsageError("Missing command.", context)
            _, below, rest = command.resolve_command(context, left)
            assert below is not None
            parse(below, rest)


def check(words: list[str]) -> None:
    """Fails for a command that can't be run as it stands."""
    name, *arguments = words[1:] if words[:2] == ["sudo", "make"] else words
    if name in PROGRAMS:
        parse(PROGRAMS[name], arguments)
    elif name == "make":
        done = subprocess.run(
            ["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        known = re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {one.partition("=")[0] for one in arguments if "=" in one} <= set(known)
    else:
        assert name in OTHERS, f"{name}: is it a command that everybody has?"


@pytest.mark.parametrize(("page", "line"), LINES)
def test_each_line_of_a_block_can_be_pasted(page, line):
    for words in commands(line):
        check(words)


@pytest.mark.parametrize(("page", "said"), SAID)
def test_each_command_that_is_named_in_a_sentence_exists(page, said):
    words = shlex.split(re.sub(r"[\[\]…]", " ", said))
    try:
        check(words)
    except click.UsageError as error:
        # A sentence may leave out what the command needs.
        assert "Missing" in str(error) or "requires an argument" in str(error), error


def test_the_check_finds_what_can_not_be_pasted():
    for line in ("farmctl job shwo ID", "farmctl job list --stat x", "farmctl job list | show ID", "farmd --lisen a:1",
                 "make instal", "make demo SIZ=1", "farm-node --server a:1 --token x", "frmctl job list"):  # fmt: skip
        with pytest.raises((click.UsageError, AssertionError)):
            for words in commands(line):
                check(words)


@pytest.mark.parametrize("program", PROGRAMS)
def test_after_the_lines_about_installing_the_farm_is_called_by_name(tmp_path, program):
    fresh = subprocess.run(["make", "-q", ".venv/farm-installed"], cwd=ROOT, capture_output=True, check=False)
    if fresh.returncode:
        pytest.skip("NOT VERIFIED: .venv isn't one that `make` has installed, and installing takes minutes")
    block = next(block for block in blocks("README.md") if block[0] == "make install")
    script = "\n".join(["set -e", *block, "cd /", f"command -v {program}", f"{program} --version"])
    environment = {"HOME": str(tmp_path), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told, called, version = done.stdout.rpartition(f"\n{tmp_path}/.local/bin/{program}\n")
    assert called and f'export PATH="{tmp_path}/.local/bin:$PATH"' in told and __version__ in version


def link(prefix: Path, folder: Path, path: str = "/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    environment = {"PREFIX": str(prefix), "BINDIR": str(folder), "PATH": path}
    command = ["sh", str(ROOT / "packaging" / "link.sh"), *PROGRAMS]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_links_are_renewed_and_a_file_of_that_name_is_left_alone(tmp_path):
    old, new, folder = tmp_path / "an old place", tmp_path / "a new place", tmp_path / "my bin"
    for prefix in (old, new):
        (prefix / "bin").mkdir(parents=True)
    assert f'export PATH="{folder}:$PATH"' in link(old, folder).stdout
    again = link(new, folder, f"{folder}:/usr/bin:/bin")
    assert again.returncode == 0 and "export" not in again.stdout
    assert {path.name: os.readlink(path) for path in folder.iterdir()} == {
        name: str(new / "bin" / name) for name in PROGRAMS
    }
    (folder / "farmd").unlink()
    (folder / "farmd").write_text("somebody's own")
    refused = link(old, folder)
    assert refused.returncode == 1 and f"{folder}/farmd exists and is not a link" in refused.stderr
    assert (folder / "farmd").read_text() == "somebody's own"
    assert os.readlink(folder / "farmctl") == str(new / "bin" / "farmctl"), "nothing was linked"


_ROOM = re.compile(
    r"`((?:farm|farmd|scheduler|renderer|nodeagent|plugins|training|tests|benchmarks|proto|docs|packaging)/[\w./-]*)`"
)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))])  # fmt: skip
def test_what_a_page_names_is_there(page):
    text = (ROOT / page).read_text()
    named = set(_ROOM.findall(text)) | {
        os.path.relpath((ROOT / page).parent / link, ROOT) for link in re.findall(r"\]\(([\w./-]+)\)", text)
    }
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]
