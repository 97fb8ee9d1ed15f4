"""docs/options.md tells the truth: it lists every option of every built-in plugin, and its examples run."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from farm.cli.plugin import default_of
from farm.cli.submit import submit
from farm.config import FarmConfig
from farm.plugins import catalogue, planning_plugins
from farm.presets import BUILT_IN
from farm.wire.plugin_messages import plugin_messages

PAGE = (Path(__file__).parents[3] / "docs" / "options.md").read_text()
OFFERS = catalogue(planning_plugins()).offers()
_COMMAND = re.compile(r"^\s*(farmctl submit .*)$", re.MULTILINE)
WITHOUT_EFFECT_ON_TINY = {"decode_timestep", "decode_noise_scale"}


def _sections() -> dict[str, str]:
    """The page's sections by their headings."""
    parts = re.split(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _heading(kind: str, name: str) -> str:
    return {"model": "Models: ltx-tiny and the released LTX models", "sampler": f"Sampler {name}"}.get(
        kind, f"Guidance {name}"
    )


def _examples(text: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^    (farmctl submit .*)$", text, re.MULTILINE)]


PLUGINS = [one for one in plugin_messages(OFFERS) if one.options]


@pytest.mark.parametrize("plugin", PLUGINS, ids=lambda one: one.name)
def test_the_page_lists_every_option_and_has_an_example_of_it(plugin):
    text = _sections()[_heading(plugin.kind, plugin.name)]
    rows = re.findall(r"^\| `.*$", text, re.MULTILINE)
    wanted = [
        f"| `{one.name}` | {one.accepts} | {default_of(one)} | {one.meaning} |" for one in plugin.options
    ]
    assert rows == wanted, "docs/options.md must have these rows:\n" + "\n".join(wanted)
    given = {
        arguments[place + 1].partition("=")[0]
        for arguments in _examples(text)
        for place, one in enumerate(arguments)
        if one == "--option"
    }
    assert {one.name for one in plugin.options} <= given


def test_the_page_names_every_sampler_and_those_that_have_no_options():
    for sampler in OFFERS["sampler"]:
        assert f"| `{sampler.name}` | {sampler.summary} |" in PAGE
    assert not any(getattr(strategy, "options", None) for strategy in OFFERS["strategy"])
    assert (
        f"{', '.join(s.name for s in OFFERS['strategy'][:-1])} and {OFFERS['strategy'][-1].name} have no"
        in (_sections()["Strategies"])
    )


def test_the_page_tells_the_built_in_presets_and_a_table_that_farmd_takes():
    named = {"ddim": "DDIM", "dpmpp_2m": "DPM++ 2M", "euler": "Euler"}
    for name, one in BUILT_IN.items():
        row = f"| `{name}` | {one.steps} | {one.guidance_scale:g} | {named[one.sampler]} | {one.width}x{one.height} |"
        assert row in PAGE
    (table,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert FarmConfig.model_validate(tomllib.loads(table)).presets["dailies"].options == {"eta": 0.3}


def test_every_example_in_the_help_of_submit_is_planned_and_acts(farmctl, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("clip.mp4", "take3.mp4", "opening.mp4"):
        shutil.copy(clip, name)
    for name in ("still.png", "a.png", "b.png", "c.png", "logo.png"):
        Image.new("RGB", (256, 160), "navy").save(name)
    Path("shots.yaml").write_text("- {frame: 0, text: a ball rolls}\n- {frame: 250, text: it stops}\n")
    Path("job.yaml").write_text("{frames: 97, width: 256, height: 160, fps: 30, prompt: a ball}\n")
    helps = [one.help.replace("\\\n", " ") for one in (submit, *submit.commands.values()) if one.help]
    examples = [shlex.split(line, comments=True) for text in helps for line in _COMMAND.findall(text)]
    assert len(examples) > 15
    for example in examples:
        bare = [one for one in example[1:] if one not in ("--wait", "--dry-run")]
        if "-o" in bare:
            del bare[(at := bare.index("-o")) : at + 2]
        told = farmctl(*bare, "--dry-run")
        assert told.exit_code == 0, (example, told.stderr)
        assert "has no effect" not in told.stderr, (example, told.stderr)


def test_every_example_of_the_page_is_planned(farmctl, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(clip, "clip.mp4")
    Image.new("RGB", (256, 160), "navy").save("still.png")
    (job,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    Path("job.yaml").write_text(job)
    examples = _examples(PAGE)
    assert len(examples) > 30
    for arguments in examples:
        told = farmctl(*arguments, *([] if "--dry-run" in arguments else ["--dry-run"]))
        assert told.exit_code == 0, (arguments, told.stderr)
        for place, one in enumerate(arguments):
            name = arguments[place + 1].partition("=")[0] if one == "--option" else ""
            idle = re.search(rf"note: {name}: has no effect.*", told.stderr) if name else None
            assert not idle or name in WITHOUT_EFFECT_ON_TINY, (arguments, idle)
