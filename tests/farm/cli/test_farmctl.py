"""farmctl on a real farm: what it prints, what it refuses, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from farm.cli import main
from farm.model_facts import LearntSizes
from farm.plugins import catalogue, planning_plugins
from farm.wire.security import Authority, parse_join_token
from plugins.outputs.mp4 import encode_segment
from tests.farm.cli.runs import PROGRAM, environment, processes, variables
from tests.pipes import errors_of, out_of


def _learnt() -> LearntSizes:
    sizes = catalogue(planning_plugins()).models["ltx-tiny"].learnt
    assert sizes is not None
    return sizes


LEARNT = _learnt()
ASK = ["--frames", 20, "--size", "64x64", "--fps", 30]
TEXT = ["submit", "text", "--frames", 300, "--size", "64x64"]


def job_in(said: str) -> str:
    """The id of the job that was submitted."""
    found = re.search(r"job (\S+) submitted", said)
    assert found, said
    return found[1]


def _jobs(farmctl) -> list[dict]:
    return json.loads(farmctl("job", "list", "-o", "json").stdout)["jobs"]


def test_help_imports_nothing_heavy():
    script = "import sys; from farm.cli import main; print({'grpc', 'rich', 'pydantic'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", script], text=True) == "set()\n"


@pytest.mark.parametrize(
    "command",
    ["", "up", "down", "submit", "submit text", "submit image", "submit extend", "submit keyframes", "submit video", "submit spec", "job", "job list", "job show", "job watch", "job cancel",
     "job download", "job outputs", "job pause", "job resume", "job retry", "job priority", "job why", "task", "task list", "task show",
     "task logs", "task retry", "node", "node list", "node show", "node drain", "node resume", "node lock", "node unlock",
     "node forget", "node claim", "node release", "node mine", "node enroll", "config", "config example", "db", "db upgrade", "db backup", "db restore",
     "client", "client export", "plugin", "plugin list", "plugin show", "preset", "preset list", "preset show"],
)  # fmt: skip
def test_every_command_teaches_with_an_example(command):
    told = CliRunner().invoke(main, [*command.split(), "--help"], prog_name="farmctl")
    assert told.exit_code == 0
    _, example = told.stdout.split(f"Usage: farmctl {command}".rstrip(), 1)
    assert f"farmctl {command}".rstrip() in example


def test_up_refuses_where_a_farm_runs_and_says_how_to_look_at_it(farmctl, home):
    again = farmctl("up")
    assert again.exit_code == 1
    assert "is already running" in again.stderr and "farmctl node list" in again.stderr


def test_the_node_is_shown_with_its_device_marked_as_declared(farmctl):
    table = farmctl("node", "list").stdout
    assert re.search(r"online +trial: cpu 2.0 GiB \(declared\)", table)
    (node,) = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"]
    assert node["devices"][0]["device"]["vram_bytes"] == str(2 * 2**30)
    shown = farmctl("node", "show", node["name"]).stdout
    assert node["id"] in shown and re.search(r"trial +cpu .* declared", shown)
    assert json.loads(farmctl("node", "show", node["id"], "-o", "json").stdout)["node"]["id"] == node["id"]


def test_a_node_that_is_locked_does_not_serve_because_its_drain_has_ended(farmctl):
    name = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"][0]["name"]
    assert farmctl("node", "lock", name).exit_code == 0
    assert farmctl("node", "drain", name, "--no-wait").exit_code == 0
    resumed = farmctl("node", "resume", name)
    assert "is locked" in resumed.stdout and f"farmctl node unlock {name}" in resumed.stdout
    assert farmctl("node", "unlock", name).exit_code == 0
    assert farmctl("node", "drain", name, "--no-wait").exit_code == 0
    assert "serves again" in farmctl("node", "resume", name).stdout


def test_a_node_without_a_device_in_quarantine_has_nothing_to_resume(farmctl):
    (node,) = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"]
    assert "no device of" in farmctl("node", "resume", node["name"]).stdout
    asked = farmctl("node", "resume", node["name"], "--device", "cuda9")
    assert asked.exit_code == 1 and "'cuda9'" in asked.stderr


def test_a_locked_node_says_who_when_and_why_until_it_is_unlocked(farmctl):
    (node,) = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"]
    name = node["name"]
    locked = farmctl("node", "lock", name, "--device", "trial", "--reason", "grading until noon")
    assert locked.exit_code == 0 and f"farmctl node unlock {name} --device trial" in locked.stdout
    for told in (farmctl("node", "list").stdout, farmctl("node", "show", name).stdout):
        assert re.search(r"trial locked:? +since 20\d\d-.* by \S+@\S+: grading until noon", told), told
    assert f"{name}/trial is unlocked" in farmctl("node", "unlock", name).stdout
    assert f"{name} is not locked" in farmctl("node", "unlock", name).stdout
    whole = json.loads(farmctl("node", "lock", name, "-o", "json").stdout)["node"]
    assert whole["lock"]["asked_by"]
    refused = farmctl("node", "unlock", name, "--device", "trial")
    assert refused.exit_code == 1 and "is locked as a whole" in refused.stderr
    assert re.search(r"online, locked", farmctl("node", "list").stdout)
    assert json.loads(farmctl("node", "unlock", name, "-o", "json").stdout)["unlocked"] == [""]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("drain", "NAME", "--now", "--deadline", "10m"), "--now and --deadline"),
        (("drain", "NAME", "--deadline", "soon"), "'soon' is not a duration"),
        (("drain", "NAME", "--deadline", "9000h"), "deadline_seconds: must be between 0 and 2592000"),
        (("lock", "NAME", "--reason", "x" * 501), "reason: must be at most 500 characters"),
        (("forget", "NAME"), "is online; first run `farmctl node drain "),
    ],
)
def test_what_can_not_be_done_to_a_node_is_refused_with_what_can(farmctl, arguments, words):
    (node,) = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"]
    asked = farmctl("node", *(node["name"] if word == "NAME" else word for word in arguments))
    assert asked.exit_code in (1, 2) and words in asked.stderr
    (after,) = json.loads(farmctl("node", "list", "-o", "json").stdout)["nodes"]
    assert "drain" not in after and "lock" not in after


def test_a_node_that_does_not_exist_is_a_failure(farmctl):
    asked = farmctl("node", "show", "nobody")
    assert asked.exit_code == 1 and "nobody" in asked.stderr


def test_enroll_prints_one_command_that_carries_the_farms_certificate(farmctl, home):
    answer = farmctl("node", "enroll")
    words = answer.stdout.split()
    assert words[:2] == ["farm-node", "--server"] and words[3] == "--join-token" and len(words) == 5
    assert parse_join_token(words[4])[0] == (home / "tls" / "ca.pem").read_bytes()
    assert "this machine only" in answer.stderr


def test_a_dry_run_shows_windows_devices_time_and_disk_and_makes_no_job(farmctl, clip):
    before = _jobs(farmctl)
    shown = farmctl("submit", "extend", clip, "--frames", 300, "--size", "64x64", "--fps", 30, "--dry-run")
    assert shown.exit_code == 0, shown.stderr
    for line in (
        r"strategy: +hierarchical",
        r"window/2 ",
        r"\d window",
        r"trial \(declared\)",
        r"disk: +about \d",
    ):
        assert re.search(line, shown.stdout), line
    assert "note: " in shown.stderr
    assert _jobs(farmctl) == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--frames", 0], "frames: must be at least 1"),
        (["--frames", 100001], "frames: must be at most 100000"),
        (["--frames", 5], "frames: must be at least 9 (the number of frames"),
        (["--size", "64"], "--size"),
        (["--size", "0x64"], "width: must be at least 32"),
        (["--fps", 0], "fps: must be at least 1"),
        (["--model", "nope"], "model: must be one of"),
        (["--strategy", "nope"], "strategy: must be one of"),
        (["--prompt", "x" * 4001], "prompt: must be at most 4000 characters"),
        (["-o", "/nowhere/v.mp4"], "output: the folder /nowhere does not exist"),
        (["--no-upload"], "must lie in one of the folders in media.roots"),
        (["--overlap", 9], "overlap_latents must be at most"),
        (["--colour", "red"], "--colour"),
    ],
)
def test_bad_input_names_the_field_and_makes_no_job(farmctl, clip, arguments, names):
    asked = farmctl("submit", "extend", clip, *ASK, *arguments)
    assert asked.exit_code == 2 and names in asked.stderr
    assert _jobs(farmctl) == []


@pytest.mark.parametrize("rate", [0, 121, -1])
def test_a_rate_that_no_video_has_is_refused_before_frames_are_counted(farmctl, clip, rate):
    asked = farmctl("submit", "video", clip, "--size", "64x64", "--fps", rate, "--prompt", "a ball")
    assert asked.exit_code == 2 and f"fps: must be from 1 to 120, got {rate}" in asked.stderr
    assert _jobs(farmctl) == []


def test_a_prompt_alone_is_planned_at_the_default_size(farmctl):
    shown = farmctl("submit", "text", "--frames", 9, "--prompt", "a red ball", "--dry-run")
    assert "9 frames (2 latents) at 1024x576" in shown.stdout and _jobs(farmctl) == []


def test_a_dry_run_tells_of_a_size_that_the_model_has_not_learnt(farmctl):
    width, height = LEARNT.largest
    ask = ["submit", "text", "--frames", 9, "--prompt", "a red ball", "--dry-run", "--size"]
    for size in (f"{width}x{height}", f"{height}x{width}"):
        assert "is made for sizes" not in farmctl(*ask, size).stderr
    told = rf"^note: model: ltx-tiny is made for sizes from \S+ to {width}x{height}; at {width + 32}x{height} its pictures"
    assert re.search(told, farmctl(*ask, f"{width + 32}x{height}").stderr, re.MULTILINE)


def test_prompts_follow_each_other_and_each_needs_its_frame(farmctl):
    ask = [*TEXT, "--prompt", "a ball rolls"]
    lines = (
        "prompts:   frames 0-232: a ball rolls",
        "frames 233-248: fade to: it stops",
        "249-299: it stops",
    )
    for second in (
        ("--prompt-at", "240", "it stops"),
        ("--prompt-at", "8s", "it stops"),
        ("--prompt", "240: it stops"),
    ):
        planned = farmctl(*ask, *second, "--crossfade", 8, "--dry-run")
        assert planned.exit_code == 0 and all(line in planned.stdout for line in lines)
        assert ("note: prompt: '240: it stops'" in planned.stderr) == (second[0] == "--prompt")
    for wrong, words in (
        ("it stops", "--prompt-at FRAME 'it stops'"),
        ("300: late", "the video has only 300 frames"),
    ):
        asked = farmctl(*ask, "--prompt", wrong, "--dry-run")
        assert asked.exit_code == 2 and words in asked.stderr


def test_prompts_from_a_file_are_planned_by_their_rows_and_not_beside_others(farmctl, tmp_path):
    (tmp_path / "shots.yaml").write_text("- text: a ball rolls\n- {timecode: 00:00:08:00, text: it stops}\n")
    ask = [*TEXT, "--prompts", tmp_path / "shots.yaml", "--dry-run"]
    assert "frames 265-299: it stops" in farmctl(*ask).stdout
    asked = farmctl(*ask, "--prompt", "a ball rolls")
    assert asked.exit_code == 2 and "prompts: --prompts FILE can't be combined with --prompt" in asked.stderr
    late = farmctl(*ask, "--fps", 60)
    assert late.exit_code == 2 and "shots.yaml: row 2: the prompt begins at frame 480" in late.stderr


def test_a_dry_run_prints_its_plan_as_json_and_no_video_is_called_json(farmctl):
    ask = [*TEXT, "--prompt", "a", "--prompt-at", 40, "b", "-o", "json"]
    found = json.loads(farmctl(*ask, "--dry-run").stdout)
    assert [span["prompts"] for span in found["plan"]["shown_prompts"]] == [["a"], ["a", "b"], ["b"]]
    assert found["notes"] and {"key", "start", "stop", "needs"} <= found["plan"]["tasks"][0].keys()
    refused = farmctl(*ask)
    assert (
        refused.exit_code == 2
        and "output: 'json' can be used only with --dry-run" in refused.stderr
        and _jobs(farmctl) == []
    )


def test_an_image_gives_the_size_and_a_clip_is_sent_to_extend(farmctl, clip, tmp_path):
    Image.new("RGB", (96, 64), "navy").save(tmp_path / "still.png")
    shown = farmctl("submit", "image", tmp_path / "still.png", "--frames", 17, "--dry-run")
    assert "17 frames (3 latents) at 96x64" in shown.stdout
    asked = farmctl("submit", "image", clip, "--frames", 17, "--dry-run")
    assert asked.exit_code == 2 and "farmctl submit extend" in asked.stderr


def test_media_is_put_where_it_is_wanted_and_refused_where_it_cannot_be(farmctl, clip, tmp_path):
    Image.new("RGB", (96, 64), "navy").save(tmp_path / "still.png")
    still = tmp_path / "still.png"
    back = farmctl("submit", "extend", clip, *ASK, "--at", "end", "--dry-run")
    assert back.exit_code == 0 and "come before the video's first frame" in back.stderr
    between = farmctl("submit", "keyframes", f"{clip}@start", f"{still}@end:0.8", *ASK, "--dry-run")
    assert between.exit_code == 0 and _jobs(farmctl) == []
    twice = farmctl("submit", "keyframes", f"{clip}@start", f"{still}@3", *ASK)
    firm = farmctl("submit", "keyframes", f"{still}@3:1.5", *ASK)
    assert firm.exit_code == 2 and "strength: must be at most 1" in firm.stderr
    assert twice.exit_code == 2 and "conditions.1.frame: frame 3 overlaps conditions.0" in twice.stderr
    assert f"(conditions.0 is {clip}@0, conditions.1 is {still}@3)" in twice.stderr, "names that were typed"
    far = farmctl("submit", "extend", clip, *ASK, "--at", 999_999_999)
    assert far.exit_code == 2 and "conditions.0.frame: must be at most 100000" in far.stderr
    for bad in (
        f"{still}",
        f"{still}@soon",
        "@3",
        f"{still}@-1",
        f"{still}@3:0.5.5",
        f"{still}@{'9' * 5000}",
    ):
        asked = farmctl("submit", "keyframes", bad, *ASK)
        assert asked.exit_code == 2 and "MEDIA@FRAME" in asked.stderr
    assert _jobs(farmctl) == []


def test_keyframes_take_rate_and_size_of_what_they_show_and_not_of_what_is_listed_first(farmctl, tmp_path):
    Image.new("RGB", (96, 64), "navy").save(still := tmp_path / "still.png")
    clip = tmp_path / "slow.mp4"
    encode_segment(np.zeros((9, 64, 64, 3), np.uint8), clip, 64, 64, Fraction(15))
    ask = ("--frames", 40, "--dry-run")
    listed = [f"{clip}@end", f"{still}@0"]
    plans = [farmctl("submit", "keyframes", *media, *ask) for media in (listed, listed[::-1])]
    assert plans[0].stdout == plans[1].stdout and "at 96x64" in plans[0].stdout
    # At the clip's own 15 frames a second nothing is resampled.
    assert all("resample" not in plan.stderr for plan in plans)
    farther = farmctl("submit", "keyframes", f"{clip}@0", f"{still}@30", *ask, "--fps", 30)
    assert "the farm resamples the clip's 9 frames at 15 fps to 18 frames at 30 fps" in farther.stderr


@pytest.mark.parametrize("content", [None, b"", b"no video", "cut"])
def test_a_clip_that_cannot_be_read_is_refused(farmctl, clip, tmp_path, content):
    bad = tmp_path / "bad.mp4"
    if content is not None:
        bad.write_bytes(clip.read_bytes()[:700] if content == "cut" else content)
    asked = farmctl("submit", "extend", bad, *ASK)
    assert asked.exit_code == 2 and "clip: " in asked.stderr and "bad.mp4" in asked.stderr


def test_a_crash_of_what_reads_media_costs_the_farm_nothing(farmctl, clip, home):
    ask = ("submit", "extend", clip, *ASK, "--dry-run")
    assert farmctl(*ask).exit_code == 0
    readers = [int(line.split()[0]) for line in processes(home) if "farm.media.reader" in line]
    assert readers, "the daemon reads media in processes of their own"
    for reader in readers:
        os.kill(reader, signal.SIGSEGV)
    assert farmctl(*ask).exit_code == 0


def test_an_existing_output_is_kept_and_refused_before_anything_is_sent(farmctl, clip, tmp_path, home):
    output = tmp_path / "v.mp4"
    output.write_text("mine")
    asked = farmctl("submit", "extend", clip, *ASK, "--wait", "-o", output)
    assert asked.exit_code == 2 and "--overwrite" in asked.stderr
    assert output.read_text() == "mine" and _jobs(farmctl) == []


@pytest.mark.parametrize("name", ["x.mov", "x.webm", "x.gif", "x.png", "x.%04d.png", "x"])
def test_an_output_that_the_video_is_not_written_as_is_refused_before_a_job_is_made(
    farmctl, clip, tmp_path, name
):
    before = len(_jobs(farmctl))
    text = ["submit", "text", *ASK, "--prompt", "a red ball"]
    for asked in (text, [*text, "--wait"], [*text, "--dry-run"], ["submit", "extend", clip, *ASK]):
        refused = farmctl(*asked, "-o", tmp_path / name)
        assert refused.exit_code == 2 and refused.stdout == ""
        assert f"output: must end in .mp4 (the format of this video), got '{name}'" in refused.stderr
    assert len(_jobs(farmctl)) == before


def test_waiting_shows_every_stage_and_delivers_the_frames_asked_for(farmctl, clip, tmp_path, home):
    output = tmp_path / "v.mp4"
    asked = farmctl("submit", "extend", clip, *ASK, "--name", "[red]shot", "--wait", "-o", output)
    assert asked.exit_code == 0, asked.stderr
    for stage in ("encode 1/1", "window 1/1", "decode 1/1", "mux 1/1", "succeeded in"):
        assert stage in asked.stdout
    with av.open(str(output)) as file:
        assert sum(1 for _ in file.decode(video=0)) == 20

    (job,) = _jobs(farmctl)
    assert "[red]shot" in farmctl("job", "list").stdout
    shown = farmctl("job", "show", job["id"]).stdout
    assert re.search(r"window/0 +succeeded +0-4 +\S+-1/trial \(declared\) +\d+\.\d +1", shown)
    details = json.loads(farmctl("job", "show", job["id"], "-o", "json").stdout)
    assert "negative_prompt" not in details["job"]["spec"], "the model's default isn't the job's own"
    assert {task["state"] for task in details["tasks"]} == {"TASK_STATE_SUCCEEDED"}

    lines = [
        json.loads(line) for line in farmctl("job", "watch", job["id"], "-o", "json").stdout.splitlines()
    ]
    assert lines[0]["event"]["kind"] == "submitted" and lines[-1]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    assert farmctl("job", "download", job["id"], "-o", output).exit_code == 2
    again = farmctl("job", "download", job["id"], "-o", tmp_path / "again.mp4")
    assert again.exit_code == 0 and (tmp_path / "again.mp4").read_bytes() == output.read_bytes()
    both = farmctl("job", "download", job["id"], "-o", tmp_path / "both.mp4", "--sidecar")
    assert both.exit_code == 0 and json.loads((tmp_path / "both.json").read_text())["frames"] == 20
    for taken in ("other.json", "both.mp4"):
        asked = farmctl("job", "download", job["id"], "-o", tmp_path / taken, "--sidecar")
        assert asked.exit_code == 2 and not (tmp_path / "other.json").exists()


def test_a_job_tells_which_frames_show_which_prompt_and_how_each_of_its_seams_was_joined(farmctl, tmp_path):
    small = ["--frames", 150, "--size", "64x64", "--prompt", "a red ball", "--wait", "-o", tmp_path / "v.mp4"]
    later = ["--prompt-at", "60", "a green box", "--prompt-always", "on a navy background", "--crossfade", 0]
    asked = farmctl("submit", "text", *small, *later)
    job_id = job_in(asked.stdout)
    table = farmctl("job", "show", job_id).stdout
    assert (
        "always:    on a navy background\nshows:     frames 0-56: on a navy background a red ball\n" in table
    )
    assert "frames 57-64: fade to: on a navy background a green box\n" in table
    told = re.findall(r"^join/0: +(.+)$", farmctl("job", "show", job_id).stdout, re.MULTILINE)
    shown = json.loads(farmctl("job", "show", job_id, "-o", "json").stdout)
    facts = {task["key"]: task["facts"] for task in shown["tasks"]}
    assert told == [facts["join/0"]["summary"]] and "disagreement" in told[0]
    assert shown["shown_prompts"][-1] == {
        "first_frame": "65", "last_frame": "149", "prompts": ["on a navy background a green box"],
    }  # fmt: skip
    assert facts["join/0"]["how"] in ("ramp", "hand-over", "heal")
    assert 0 < facts["join/0"]["spread_kept"] <= 1 and facts["window/0"] == {}


def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(farmctl, clip, tmp_path, home):
    output = tmp_path / "v.mp4"
    big = ["--frames", 2000, "--size", "512x512", "--fps", 30, "--wait", "-o", output]
    waiting = subprocess.Popen(
        [
            *PROGRAM,
            *map(str, ["submit", "extend", clip, *big]),
        ],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "running" not in (line := out_of(waiting).readline()):
        assert line, errors_of(waiting).read()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=10)
    (job,) = [job for job in _jobs(farmctl) if job["state"] == "JOB_STATE_RUNNING"]
    assert waiting.returncode == 130
    assert f"farmctl job watch {job['id']} -o {output}" in said
    assert re.search(r"window/1 +waiting", farmctl("job", "show", job["id"]).stdout)

    cancelled = farmctl("job", "cancel", job["id"])
    assert cancelled.exit_code == 0 and "is cancelled" in cancelled.stdout
    watched = farmctl("job", "watch", job["id"])
    assert watched.exit_code == 1 and "cancelled" in watched.stderr


def test_submitting_without_waiting_says_how_to_get_the_video_and_what_to_expect_of_it(
    farmctl, clip, tmp_path
):
    side = LEARNT.least - 32
    asked = farmctl("submit", "extend", clip, *ASK, "--size", f"{side}x{side}", "-o", tmp_path / "v.mp4")
    job_id = job_in(asked.stdout)
    assert f"farmctl job download {job_id} -o {tmp_path / 'v.mp4'}" in asked.stderr
    (told,) = re.findall(r"^note: (model: .*)$", asked.stderr, re.MULTILINE)
    assert f"; at {side}x{side} its pictures" in told
    assert re.search(rf"^note: +{re.escape(told)}$", farmctl("job", "show", job_id).stdout, re.MULTILINE)
    assert farmctl("job", "watch", job_id, "-o", tmp_path / "v.mp4").exit_code == 0
    assert (tmp_path / "v.mp4").stat().st_size


def test_a_farm_that_is_not_there_is_a_failure_that_says_what_to_do(tmp_path):
    asked = CliRunner().invoke(main, ["job", "list"], env=variables(tmp_path))
    assert asked.exit_code == 1 and "farmctl up" in asked.stderr
    profile = Authority.open(tmp_path).write_profile("127.0.0.1:9")
    begun = time.monotonic()
    asked = CliRunner().invoke(main, ["--profile", str(profile), "job", "list"])
    assert asked.exit_code == 1 and "127.0.0.1:9" in asked.stderr and "farmctl up" in asked.stderr
    assert time.monotonic() - begun < 10
