"""farmctl submit --spec FILE: whole jobs as files, what wins over them, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner

from farm.cli import main
from farm.cli.spec_file import read_job
from farm.client import LocalCondition
from farm.spec import Condition, InvalidSpec, JobSpec
from tests.farm.cli.runs import variables

JOB = """
name: from a file
prompt: a red ball
frames: 49
width: 128
height: 96
fps: 30
sampler: ddim
steps: 4
options: {eta: 0.5, shift: 2}
conditions:
  - media: media/clip.mp4
    frame: 8
    strength: 0.9
"""


@pytest.fixture
def job(tmp_path, clip) -> Path:
    (tmp_path / "media").mkdir()
    shutil.copy(clip, tmp_path / "media" / "clip.mp4")
    file = tmp_path / "job.yaml"
    file.write_text(JOB)
    return file


def _plan(answer) -> dict:
    assert answer.exit_code == 0, answer.stderr
    return json.loads(answer.stdout)


def test_media_count_from_the_files_folder_and_paths_of_the_daemons_host_stay(tmp_path):
    file = tmp_path / "job.json"
    media = [
        {"media": "a.png"},
        {"media": {"path": "/srv/b.png"}, "frame": 9},
        {"media": {"artifact_id": "x"}},
    ]
    file.write_text(json.dumps({"frames": 17, "conditions": media, "steps": None}))
    fields, conditions = read_job(str(file))
    assert fields == {"frames": 17}
    assert conditions[0] == LocalCondition(tmp_path / "a.png", 0, 1.0)
    assert all(isinstance(one, Condition) for one in conditions[1:]) and conditions[1].frame == 9


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("frmes: 9", "frmes: there is no such field in a job; did you mean 'frames'?"),
        ("destination: x.mp4", "destination: there is no such field in a job"),
        (
            "conditions: [{media: a.png, fram: 3}]",
            "conditions.0.fram: there is no such field; did you mean 'frame'?",
        ),
        ("conditions: [{media: a.png, strength: 3}]", "conditions.0.strength: must be at most 1"),
        ("conditions: a.png", "conditions: must be a list"),
        ("conditions: [{frame: 3}]", "conditions.0.media: must be given"),
        ("- frames: 9", "spec: JOB must contain fields of a job"),
        ("", "spec: JOB must contain fields of a job"),
        (
            "frames: 9\nframes: 10",
            "spec: JOB is not valid YAML: line 2: the key 'frames' comes twice in one part",
        ),
        ("prompt: take #3", "spec: JOB is not valid YAML: line 1: '#' would end the text 'take'"),
        ("prompt: [", "spec: JOB is not valid YAML: line 1: "),
        (
            '{"frames": 9, "frames": 10}',
            "spec: JOB: the key 'frames' comes twice in one object; remove one of them",
        ),
        (
            "frames: !!python/object/apply:os.getcwd []",
            "spec: JOB is not valid YAML: line 1: could not determine",
        ),
        ("options: {1: 2}", "options: each name must be a text, got 1; put the name in quotes"),
        ("options: {not_honoured: {on: 2}}", "options.not_honoured: each name must be a text, got true"),
    ],
)
def test_a_file_that_is_wrong_is_refused_with_the_place(tmp_path, text, told):
    file = tmp_path / "job.yaml"
    file.write_text(text)
    with pytest.raises(InvalidSpec) as refused:
        read_job(str(file))
    assert str(refused.value).startswith(told.replace("JOB", str(file)))


NUMBERS = [
    *(
        name
        for name, field in JobSpec.model_fields.items()
        if {int, float} & {field.annotation, *get_args(field.annotation)}
    ),
    *("conditions.0.frame", "conditions.0.strength", "later_prompts.0.frame"),
]


@pytest.mark.parametrize("field", NUMBERS)
def test_neither_true_nor_a_text_is_a_number(tmp_path, field):
    parts = {"conditions": {"media": "a.png"}, "later_prompts": {"text": "a cube"}}
    for value, told in (("true", "true"), ("'4'", '"4"')):
        name, _, within = field.partition(".0.")
        given = yaml.safe_load(value)
        fields = {name: [{**parts[name], within: given}]} if within else {name: given}
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump(fields))
        with pytest.raises(InvalidSpec) as refused:
            read_job(str(file))
        assert refused.value.field == field
        assert refused.value.problem.startswith(("must be a number ", "must be a whole number "))
        assert refused.value.problem.endswith(f", got {told}")


def test_the_numbers_of_a_job_are_all_checked():
    assert set(NUMBERS) > {"frames", "width", "fps", "seed", "steps", "guidance_scale", "priority"}
    assert len(NUMBERS) == 14


@pytest.mark.parametrize(
    "arguments", [("--spec",), ("--dry-run", "--spec"), ("--spec", "--dry-run"), ("--spec=",)]
)
def test_spec_without_a_file_is_told_that_it_needs_one(arguments):
    told = CliRunner().invoke(main, ["submit", *arguments])
    assert told.exit_code == 2
    assert "Error: --spec needs a file (`--spec job.yaml`) or standard input (`--spec -`)." in told.stderr


def test_json_is_read_as_json_and_a_brace_may_begin_yaml(tmp_path):
    (tmp_path / "a.json").write_text('{"guidance_scale": 1e1}')
    assert read_job(str(tmp_path / "a.json"))[0] == {"guidance_scale": 10.0}
    (tmp_path / "a.yaml").write_text("{frames: 9, prompt: a ball}")
    assert read_job(str(tmp_path / "a.yaml"))[0] == {"frames": 9, "prompt": "a ball"}
    (tmp_path / "b.json").write_text("{frames: 9}")
    for name, told in (
        ("b.json", "is not valid JSON: line 1: "),
        ("none.yaml", "can't be read: No such file"),
    ):
        with pytest.raises(InvalidSpec, match=told):
            read_job(str(tmp_path / name))


def test_a_file_is_planned_and_what_is_given_beside_it_wins(farmctl, job):
    plan = _plan(farmctl("submit", "--spec", job, "--dry-run", "-o", "json"))["plan"]
    assert plan["sampler"] == "ddim" and plan["render_width"] == 128
    assert {task["steps"] for task in plan["tasks"] if task["kind"] == "window"} == {4}
    beside = (
        "--steps",
        3,
        "--option",
        "sampler.eta=0",
        "--size",
        "96x64",
        "--prompt",
        "a cube",
        "--frames",
        41,
    )
    plan = _plan(farmctl("submit", "--dry-run", f"--spec={job}", *beside, "-o", "json"))["plan"]
    assert plan["render_width"] == 96 and plan["render_frames"] == "41"
    assert {task["steps"] for task in plan["tasks"] if task["kind"] == "window"} == {3}
    assert plan["shown_prompts"][0]["prompts"] == ["a cube"]
    same = farmctl("submit", "spec", job, "--preset", "quality", "--dry-run")
    assert same.exit_code == 0 and "at 128x96" in same.stdout and "4 steps" in same.stdout


def test_a_file_without_a_size_takes_the_presets(home, tmp_path):
    text = "frames: 9\nfps: 30\npreset: speed\nprompt: a ball\n"
    arguments = ["submit", "--spec", "-", "--dry-run"]
    told = CliRunner().invoke(main, arguments, input=text, env=variables(home))
    assert told.exit_code == 0, told.stderr
    assert "at 640x352" in told.stdout and "10 steps, 20 passes a window" in told.stdout
    bare = CliRunner().invoke(main, arguments, input="frames: 9", env=variables(home))
    assert bare.exit_code == 2 and bare.stderr == "farmctl: width: must be given\n"


def test_errors_of_the_whole_job_name_their_field(farmctl, job):
    job.write_text(JOB.replace("eta: 0.5", "eta: 5"))
    told = farmctl("submit", "--spec", job, "--dry-run")
    assert told.exit_code == 2 and told.stderr.startswith("farmctl: options.eta: must be at most 1")
    job.write_text(JOB.replace("media/clip.mp4", "media/none.mp4"))
    told = farmctl("submit", "--spec", job, "--dry-run")
    assert told.exit_code == 2 and "conditions.0" in told.stderr and "none.mp4" in told.stderr


@pytest.mark.long
def test_a_file_is_submitted_waited_for_and_downloaded(farmctl, job, tmp_path):
    video = tmp_path / "out.mp4"
    made = farmctl("submit", "--spec", job, "--steps", 2, "--wait", "-o", video)
    assert made.exit_code == 0, made.stderr
    assert video.read_bytes()[4:8] == b"ftyp"
    shown = farmctl("job", "show", made.stdout.split()[1], "-o", "json")
    spec = json.loads(shown.stdout)["job"]["spec"]
    assert spec["name"] == "from a file" and spec["options"] == {"eta": 0.5, "shift": 2}
