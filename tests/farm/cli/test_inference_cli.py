"""farmctl inference takes Lightricks' command line as it stands, on a farm that has ltx-tiny alone."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import av
import pytest
from click.testing import CliRunner
from PIL import Image

from farm.cli import main
from farm.cli.inference import _asked, _spread, inference
from farm.inference.arguments import InferenceConfig
from tests.farm.cli.conftest import Farmctl
from tests.farm.cli.runs import PROGRAM, environment
from tests.farm.media.clips import noise_clip
from tests.pipes import errors_of, out_of

BOTTLE = "透明瓶装饮料在冰雾中旋转,瓶身水滴动态特写"
TINY = ("--model", "ltx-tiny")
SMALL = ("--height", 90, "--width", 128)


def bottle(*more: object) -> tuple[object, ...]:
    config = "configs/ltxv-2b-0.9.6-distilled.yaml"
    return ("inference", "--prompt", BOTTLE, "--pipeline_config", config, *more)


def weapon(clip: Path, *more: object) -> tuple[object, ...]:
    config = "configs/ltxv-13b-0.9.7-dev.yaml"
    held = ("--conditioning_media_paths", clip, "--conditioning_start_frames", 0)
    return ("inference", *held, "--num_frames", 257, "--pipeline_config", config, *more)


def tasks_of(plan: str) -> dict[str, int]:
    """The numbers of tasks by kind in a plan that was printed."""
    (line,) = (line for line in plan.splitlines() if line.startswith("tasks:"))
    counts = (told.split() for told in line.removeprefix("tasks:").split(","))
    return {kind: int(count) for count, kind in counts}


def rows_of(plan: str) -> list[list[str]]:
    """Name and latents of each storyboard and window in a plan that was printed."""
    _, _, table = plan.partition("\nWINDOW ")
    return [row.split()[:2] for row in table.splitlines()[1:] if row.strip()]


def interrupted(home: Path, *arguments: object) -> tuple[str, str, str]:
    """Call farmctl, and press Ctrl-C once it has submitted a job. Return the job's id, stdout and stderr."""
    command = [*PROGRAM, *map(str, arguments)]
    called = subprocess.Popen(
        command, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    while not (lines and lines[-1].endswith(" submitted\n")):
        lines.append(out_of(called).readline())
        assert lines[-1], errors_of(called).read()
    called.send_signal(signal.SIGINT)
    rest, told = called.communicate(timeout=30)
    assert called.returncode == 130, (lines, rest, told)
    return lines[-1].split()[1], "".join(lines) + rest, told


def test_the_first_command_is_planned_as_one_window(farmctl: Farmctl):
    size = ("--height", 720, "--width", 1280, "--num_frames", 65)
    told = farmctl(*bottle(*size, *TINY, "--dry-run"))
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("ltx-tiny stands in for ltxv-2b-0.9.6-distilled-04-25.safetensors\n")
    assert "65 frames (9 latents) at 1280x736" in told.stdout and "window/0" in told.stdout
    assert "window/1" not in told.stdout and "note: prompt not enhanced" in told.stderr


def test_the_second_command_is_planned_as_one_window_without_a_prompt(farmctl: Farmctl, clip: Path):
    told = farmctl(*weapon(clip, *SMALL, *TINY, "--dry-run"))
    assert told.exit_code == 0, told.output
    first = told.stdout.splitlines()[0]
    assert first.startswith("ltx-tiny stands in for ltxv-13b-0.9.7-dev.safetensors; first pass only")
    assert "257 frames (33 latents) at 128x96" in told.stdout
    tasks = tasks_of(told.stdout)
    assert tasks["window"] == 1 and "storyboard" not in tasks
    assert rows_of(told.stdout) == [["window/0", "0-33"]]
    assert "note: prompt: there is none" in told.stderr
    assert (
        "note: window_latents: the video is one window of 33 latents, but ltx-tiny is made for windows of at most 16"
        in told.stderr
    )


@pytest.mark.parametrize("command", ["ltxv-2b-0.9.6-distilled", "ltxv-13b-0.9.7-dev"])
def test_a_missing_model_is_refused_with_what_to_copy_where_and_with_the_model_for_trials(
    farmctl: Farmctl, command: str
):
    told = farmctl("inference", "--prompt", "a ball", "--pipeline_config", command)
    assert told.exit_code == 2
    model = command.replace("ltxv", "ltx")
    known = "-dev" in model
    lacks = f"can't render with {model}" if known else f"doesn't know {model} yet"
    assert f"farmctl: model: this farm {lacks}" in told.stderr
    assert f'named in its node.toml, below [models]: "{model}" = "/FOLDER"' in told.stderr
    assert told.stderr.rstrip().endswith("add --model ltx-tiny")


def test_the_video_gets_the_original_name_in_the_folder(farmctl: Farmctl, tmp_path: Path):
    folder = tmp_path / "new" / "outputs"
    for number in range(2):
        told = farmctl(*bottle(*SMALL, "--num_frames", 9, "--output_path", folder, *TINY))
        assert told.exit_code == 0, told.output
        path = folder / f"video_output_0_{BOTTLE.replace(',', '')}_171198_90x128x9_{number}.mp4"
        assert str(path) in told.stdout
        with av.open(str(path)) as video:
            frames = list(video.decode(video=0))
        assert [(frame.width, frame.height) for frame in frames] == [(128, 90)] * 9


def test_one_frame_is_a_png(farmctl: Farmctl, tmp_path: Path):
    told = farmctl(*bottle(*SMALL, "--num_frames", 1, "--seed", 7, "--output_path", tmp_path, *TINY))
    assert told.exit_code == 0, told.output
    (path,) = tmp_path.glob("image_output_0_*_7_90x128x1_0.png")
    assert Image.open(path).size == (128, 90)


def test_the_words_that_the_model_does_not_read_are_named(farmctl: Farmctl, tmp_path: Path):
    prompt = "a red ball moving right " * 16 + "and a lighthouse"
    config = ("--pipeline_config", "ltxv-2b-0.9.6-distilled")
    size = ("--height", 64, "--width", 64, "--num_frames", 1, "--output_path", tmp_path)
    told = farmctl("inference", "--prompt", prompt, *config, *size, *TINY)
    assert told.exit_code == 0, told.output
    (note,) = (line for line in told.stderr.splitlines() if "doesn't see" in line)
    assert note.startswith("note: prompt: the model reads at most 64 tokens of a prompt, so it doesn't see '")
    words = note.partition("see '")[2].removesuffix("'")
    assert prompt.endswith(words) and words.endswith("and a lighthouse") and words != prompt


@pytest.mark.long
def test_the_second_command_makes_257_frames(farmctl: Farmctl, clip: Path, tmp_path: Path):
    told = farmctl(*weapon(clip, *SMALL, "--output_path", tmp_path, *TINY))
    assert told.exit_code == 0, told.output
    with av.open(str(tmp_path / "video_output_0__171198_90x128x257_0.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 257


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        (("--num_frames", 0), "farmctl: num_frames: must be at least 1, got 0"),
        (("--frame_rate", 0), "farmctl: frame_rate: must be at least 1.0, got 0"),
        (("--width", 33), "farmctl: width: must be a multiple of 2, got 33"),
        (("--input_media_path", "none.mp4"), "farmctl: input_media_path: needs a config"),
        (("--conditioning_media_paths", "none.mp4", "--conditioning_start_frames", 0), "farmctl: conditioning_media_paths: none.mp4: does not exist"),
        (("--model", "ltx-tyni"), "farmctl: model: this farm knows no model of this name; must be one of ltx-13b-0.9.7-dev, "),
        (("--num_farmes", 9), "Did you mean '--num_frames'?"),
    ],
)  # fmt: skip
def test_what_is_refused_is_named_as_it_was_given(farmctl: Farmctl, given: tuple, refusal: str):
    told = farmctl(*bottle(*TINY, *given))
    assert told.exit_code == 2 and refusal in told.stderr


@pytest.mark.parametrize(("frames", "start"), [(1, 0), (9, 8)])
def test_what_was_said_of_a_job_stays_with_it(
    farmctl: Farmctl, home: Path, clip: Path, tmp_path: Path, frames: int, start: int
):
    held = ("--conditioning_media_paths", clip, "--conditioning_start_frames", start, "--num_frames", frames)
    config = ("--pipeline_config", "ltxv-13b-0.9.7-distilled")
    job, out, told = interrupted(home, "inference", *TINY, *SMALL, *held, *config, "--output_path", tmp_path)
    kept = farmctl("job", "show", job).stdout
    farmctl("job", "cancel", job)
    for said in (
        "ltx-tiny stands in for ltxv-13b-0.9.7-distilled.safetensors; first pass only: ",
        "downscale_factor, spatial_upscaler_model_path, second_pass: the farm doesn't honour these keys yet",
        "prompt not enhanced: ",
        f"{clip}: the video uses only the first 1 of this clip's 9 frames",
    ):
        assert (out + told).count(said) == 1
        assert f"note:      {said}" in kept


def test_a_clip_that_begins_further_on_is_placed_as_in_the_original(farmctl: Farmctl, clip: Path):
    held = ("--conditioning_media_paths", clip, "--conditioning_start_frames", 16)
    told = farmctl(*bottle(*TINY, *SMALL, "--num_frames", 33, *held, "--dry-run"))
    assert told.exit_code == 0, told.output
    assert (
        "note: clip: the model sees 9 of the clip's 9 frames in addition to the frames that it makes"
        in told.stderr
    )


def test_a_video_to_rework_may_fill_the_last_latent_and_be_mixed_with_another(
    farmctl: Farmctl, tmp_path: Path
):
    """20 frames are 4 latents, which hold 25."""
    config, long = tmp_path / "own.yaml", tmp_path / "long.mp4"
    config.write_text("checkpoint_path: x\nguidance_scale: 1\nskip_initial_inference_steps: 10")
    noise_clip(long, 40)
    given = ("--input_media_path", long, "--pipeline_config", config, *TINY, *SMALL, "--dry-run")
    told = farmctl("inference", "--num_frames", 20, *given)
    assert told.exit_code == 0, told.output
    assert "the video uses only the first 25 of this clip's 40 frames" in told.stderr
    held = (
        "--conditioning_media_paths",
        long,
        "--conditioning_start_frames",
        0,
        "--conditioning_strengths",
        0.5,
    )
    told = farmctl("inference", "--num_frames", 17, *held, *given)
    assert told.exit_code == 0, told.output


def test_a_moving_image_is_held_as_its_first_picture(farmctl: Farmctl, tmp_path: Path):
    moving = tmp_path / "moving.gif"
    first, *more = (Image.new("RGB", (128, 96), (60 * shade, 0, 0)) for shade in range(9))
    first.save(moving, save_all=True, append_images=more)
    held = ("--conditioning_media_paths", moving, "--conditioning_start_frames", 0)
    told = farmctl(*bottle(*TINY, *SMALL, "--num_frames", 9, *held, "--dry-run"))
    assert told.exit_code == 0 and "this clip's" not in told.stderr
    # A clip of 9 frames would be the whole video.
    assert "window/0" in told.stdout, told.output


def test_a_refused_job_leaves_no_folder(farmctl: Farmctl, tmp_path: Path):
    folder = tmp_path / "new" / "outputs"
    told = farmctl(*bottle(*TINY, "--width", 33, "--output_path", folder))
    assert told.exit_code == 2 and "farmctl: width:" in told.stderr
    assert not folder.parent.exists()


def test_a_folder_that_cannot_be_made_is_refused_before_the_job_is_submitted(
    farmctl: Farmctl, tmp_path: Path
):
    (tmp_path / "file").touch()
    told = farmctl(*bottle(*TINY, *SMALL, "--output_path", tmp_path / "file" / "outputs"))
    assert told.exit_code == 2 and "submitted" not in told.stdout
    assert f"farmctl: output_path: must be a folder, but {tmp_path / 'file'} is a file" in told.stderr


@pytest.mark.parametrize(
    ("frames", "name"), [(9, "video_output_0__171198_90x128x9_0.mp4"), (1, "image_output_0__171198_90x128x1_0.mp4")]
)  # fmt: skip
def test_ctrl_c_tells_how_the_video_gets_to_its_path(
    farmctl: Farmctl, home: Path, tmp_path: Path, frames: int, name: str
):
    folder = tmp_path / "my videos"
    asked = (*TINY, *SMALL, "--num_frames", frames, "--output_path", folder)
    job, _, told = interrupted(home, "inference", *asked)
    assert folder.is_dir()
    assert f"follow it again with `farmctl job watch {job} -o '{folder / name}'`, or cancel" in told
    png = "only `farmctl inference` turns this video into image_output_0__171198_90x128x1_0.png"
    assert (png in told) == (frames == 1)
    farmctl("job", "cancel", job)


def test_no_note_tells_of_a_key_that_nobody_wrote(farmctl: Farmctl, tmp_path: Path):
    config = tmp_path / "own.yaml"
    for keys, noted in (("", []), ("stg_scale: 1", ["stg_scale"]), ("stg_mode: stg_av", ["stg_mode"])):
        config.write_text(f"checkpoint_path: x\nguidance_scale: 1\n{keys}")
        told = farmctl(
            "inference", *TINY, *SMALL, "--num_frames", 9, "--pipeline_config", config, "--dry-run"
        )
        assert told.exit_code == 0, told.output
        found = [line.split(":")[1].strip() for line in told.stderr.splitlines() if "has no effect" in line]
        assert found == noted
    config.write_text("checkpoint_path: x")
    told = farmctl("inference", *TINY, *SMALL, "--num_frames", 9, "--pipeline_config", config, "--dry-run")
    assert told.exit_code == 0 and "has no effect" not in told.stderr


def test_images_that_overlap_are_named_as_they_were_given(farmctl: Farmctl, tmp_path: Path):
    still = tmp_path / "s.png"
    Image.new("RGB", (128, 96)).save(still)
    held = ("--conditioning_media_paths", still, still, "--conditioning_start_frames", 0, 0)
    told = farmctl(*bottle(*TINY, *SMALL, "--num_frames", 9, *held, "--dry-run"))
    assert told.exit_code == 2
    assert (
        f"farmctl: conditioning_start_frames: {still} (number 2): frame 0 overlaps {still} (number 1), "
        in told.stderr
    )
    assert "conditions" not in told.stderr and ".prepared" not in told.stderr.replace(str(still), "")


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("--conditioning_media_paths a b --seed 3", "--conditioning_media_paths a --conditioning_media_paths b --seed 3"),
        ("--conditioning-start-frames 0 -1", "--conditioning_start_frames 0 --conditioning_start_frames -1"),
        ("--conditioning_strengths 1 --conditioning_strengths .5 1", "--conditioning_strengths .5 --conditioning_strengths 1"),
        ("--num_fr 9 --input=a", "--num_frames 9 --input_media_path=a"),
        ("--mod ltx-tiny --dry", "--model ltx-tiny --dry-run"),
        ("--dry_run --pro=--x", "--dry-run --prompt=--x"),
        ("--offload_to_cpu --seed 3", "--offload_to_cpu true --seed 3"),
        ("--offload_to_cpu False", "--offload_to_cpu False"),
        ("--conditioning_media_paths=a --conditioning_media_paths=b", "--conditioning_media_paths=b"),
        ("--conditioning_media_paths a b --conditioning_media_paths=c", "--conditioning_media_paths=c"),
        ("--conditioning_media_paths=a --conditioning_media_paths b", "--conditioning_media_paths b"),
        ("--conditioning_media_paths a --conditioning_media_paths - --seed=3", "--conditioning_media_paths - --seed=3"),
    ],
)  # fmt: skip
def test_values_after_one_another_belong_to_the_option_before_them(given: str, read: str):
    assert list(_spread(given.split())) == read.split()


def test_a_value_may_begin_with_a_hyphen_if_it_has_a_space():
    option = "--conditioning_media_paths"
    assert list(_spread([option, "- a.png", "b"])) == [option, "- a.png", option, "b"]


def test_an_empty_path_is_as_none():
    given = inference.make_context("inference", ["--output_path", "", "--input_media_path", ""]).params
    asked = _asked({name: value for name, value in given.items() if name not in ("model", "dry_run")})
    assert (asked.output_path, asked.input_media_path) == (InferenceConfig().output_path, None)


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ("--p ball", "ambiguous option: --p could match --prompt, --pipeline_config; write more of the name"),
        ("--cond a", "ambiguous option: --cond could match --conditioning_media_paths, --conditioning_strengths, --conditioning_start_frames; "),
        ("--h 9", "ambiguous option: --h could match --height, --help; "),
        ("--conditioning_media_paths", "--conditioning_media_paths needs at least one value"),
        ("--conditioning_media_paths --seed 3", "--conditioning_media_paths needs at least one value"),
        ("--prompt --seed=3", "--prompt needs a value"),
        ("--dry-run --prompt", "--prompt needs a value"),
    ],
)  # fmt: skip
def test_an_option_that_is_not_clear_is_refused(given: str, refusal: str):
    told = CliRunner().invoke(main, ["inference", *given.split()])
    assert told.exit_code == 2 and f"Error: {refusal}" in told.stderr
    assert "Usage: " in told.stderr
