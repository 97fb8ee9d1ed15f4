"""`farmctl inference` and Lightricks' own `infer()` get the same YAML, media and draws, and make the same latents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
import pytest
import torch
import yaml
from PIL import Image

pytest.importorskip("ltx_video", reason="NOT VERIFIED: Lightricks' package isn't installed")

from ltx_video.pipelines import pipeline_ltx_video
from ltx_video.schedulers.rf import RectifiedFlowScheduler

from farm.inference.arguments import InferenceConfig
from farm.inference.configs import find_config, published
from farm.inference.mapping import SOURCE_STRENGTH, InferenceJob, job_of
from farm.inference.media import fitting_frames, prepare
from farm.media.clips import probe
from farm.plan import LATENTS, media_name
from farm.rendering import DeviceInfo
from farm.spec import parse_spec
from farm.timeline import frames_of, latents_for
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.rendering import STEP_POINT, STEP_START, STEPS_EXTRA, STEPS_FRESH, STEPS_SHAKING, LtxModel
from renderer.local import LocalJob, by_model
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan
from tests.parity.lightricks import Lightricks
from tests.parity.script import script
from tests.plugins.ltx.local_plans import OFFERS

pytestmark = pytest.mark.filterwarnings("ignore")  # their code is of 2025

CLOSE = 1e-4
DEVICE = DeviceInfo("cpu", 0, 2, 0)
PROMPT = "a red ball moving right on a navy background"


class Done(Exception):
    """Raised to leave `infer()` once its latents are there."""


class NotLoaded:
    """In place of a model that Lightricks' script would load, and in bfloat16: the tests have them in float32."""

    @classmethod
    def from_pretrained(cls, *_: Any, **__: Any) -> NotLoaded:
        return cls()

    def to(self, *_: Any) -> NotLoaded:
        return self


class Reference:
    """Lightricks' `infer()` up to the latents of its only or first pass, on ltx-tiny and on the farm's draws.

    The script chooses the scheduler itself, from the config and the checkpoint.
    """

    def __init__(self, lightricks: Lightricks, ltx: Ltx, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.pipeline, self.vae = lightricks.pipeline, lightricks.vae
        self.pipeline.register_modules(tokenizer=ltx.tokenizer, text_encoder=ltx.text_encoder)
        self.mean_of = lightricks._mean_of
        self.device = torch.device("cpu")
        self.latents: torch.Tensor | None = None

    def made_of(self, *, scheduler: RectifiedFlowScheduler, **_: Any) -> Reference:
        """Stand in for `LTXVideoPipeline`, whose other parts are there already."""
        self.pipeline.register_modules(scheduler=scheduler)
        return self

    def to(self, _: Any) -> Reference:
        return self

    def trim_conditioning_sequence(self, *arguments: int) -> int:
        return self.pipeline.trim_conditioning_sequence(*arguments)

    def __call__(self, **told: Any) -> None:
        told.pop("downscale_factor", None)
        told.pop("second_pass", None)
        told.update(told.pop("first_pass", {}))
        self.latents = self.pipeline(**told | {"output_type": "latent"}).images[0]
        raise Done

    def run(
        self,
        asked: InferenceConfig,
        noise: Callable[[int, tuple[int, ...]], torch.Tensor],
        beside: Callable[[int, tuple[int, ...]], torch.Tensor],
    ) -> torch.Tensor:
        drawn = {"shaking": -1, "fresh": -1, "beside": -1}

        def draw(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
            if len(shape) == 5:  # it is mixed into what the model sees beside the video's own latents
                drawn["beside"] += 1
                return beside(drawn["beside"], tuple(shape))
            drawn["shaking"] += 1
            first = drawn["shaking"] == 0
            return noise(STEP_START if first else STEPS_SHAKING + drawn["shaking"] - 1, tuple(shape))

        def like(tensor: torch.Tensor, **_: Any) -> torch.Tensor:
            drawn["fresh"] += 1
            return noise(STEPS_FRESH + drawn["fresh"], tuple(tensor.shape))

        with (
            mock.patch.object(pipeline_ltx_video, "randn_tensor", draw),
            mock.patch.object(torch, "randn_like", like),
            mock.patch.object(self.vae, "encode", self.mean_of(self.vae.encode)),
            mock.patch.object(script, "LTXVideoPipeline", self.made_of),
            mock.patch.object(script, "CausalVideoAutoencoder", NotLoaded),
            mock.patch.object(script, "create_transformer", lambda *_: NotLoaded()),
            mock.patch.object(script, "T5EncoderModel", NotLoaded),
            mock.patch.object(script, "T5Tokenizer", NotLoaded),
            mock.patch.object(script, "create_latent_upsampler", lambda *_: None),
            mock.patch.object(script, "LTXMultiScalePipeline", lambda pipeline, **_: pipeline),
            mock.patch.object(script, "hf_hub_download", lambda **_: str(self.checkpoint)),
            pytest.raises(Done),
        ):
            given = self.pipeline.scheduler
            try:
                script.infer(script.InferenceConfig(**asked.model_dump()))
            finally:
                self.pipeline.register_modules(scheduler=given)
        assert self.latents is not None
        return self.latents


@pytest.fixture(scope="module")
def reference(lightricks: Lightricks, ltx: Ltx, single_file: Path) -> Reference:
    return Reference(lightricks, ltx, single_file)


def media_of(
    job: InferenceJob, asked: InferenceConfig, folder: Path
) -> tuple[list[PreparedMedia], dict[str, Path]]:
    """The prepared media as the planner and the renderer get them."""
    size, fps = (asked.width, asked.height), asked.frame_rate
    found: list[PreparedMedia] = []
    files: dict[str, Path] = {}

    def take(path: str, frame: int, strength: float, *, whole: bool) -> None:
        facts = probe(path)
        needed = frames_of(latents_for(asked.num_frames))
        most = needed if whole else fitting_frames(facts.frames, frame, asked.num_frames)
        made = prepare(path, facts, folder, size=size, fps=fps, frames=most, resize=whole)
        files[media_name(len(found))] = made.path
        found.append(PreparedMedia(f"a{len(found)}", frame, made.frames, strength))

    if job.made_over:
        take(job.made_over, 0, SOURCE_STRENGTH, whole=True)
    for one in job.media:
        take(one.path, one.frame, one.strength, whole=False)
    return found, files


def by_farm(ltx: Ltx, asked: InferenceConfig, folder: Path) -> torch.Tensor:
    job = job_of(asked, find_config(asked.pipeline_config), "ltx-tiny")
    media, files = media_of(job, asked, folder)
    spec = parse_spec(dict(job.fields))
    plan = make_plan(
        spec,
        model=OFFERS.models["ltx-tiny"],
        weights="w",
        strategy=OFFERS.strategies["autoregressive"],
        output=OFFERS.outputs["mp4"],
        media=media,
        sampler=OFFERS.samplers[spec.sampler],
        guidance=OFFERS.guidances[spec.guidance],
        offers=OFFERS.offers(),
    )
    local = LocalJob(plan.shared, folder, by_model(LtxModel(ltx, DEVICE)), files)
    encode, window = plan.tasks[:2]
    local.do(encode)
    local.do(window)
    return load_latents(local.files["window/0", LATENTS], window.start, window.stop)


def both(
    ltx: Ltx, reference: Reference, asked: InferenceConfig, folder: Path
) -> tuple[torch.Tensor, torch.Tensor]:
    ours = by_farm(ltx, asked, folder)
    channels, count, height, width = ours.shape

    def noise(step: int, shape: tuple[int, ...]) -> torch.Tensor:
        """The farm's noise, as Lightricks draws it: patchified [1, tokens, C], those of extra latents first."""
        extra = shape[1] // (height * width) - count
        size = (channels, height, width)
        drawn = [torch.from_numpy(latent_noise(asked.seed, 0, step, 0, count, *size))]
        if extra:
            drawn.insert(
                0, torch.from_numpy(latent_noise(asked.seed, 0, STEPS_EXTRA + step, 0, extra, *size))
            )
        return torch.cat(drawn, 1).flatten(1).T[None].clone()

    def beside(number: int, shape: tuple[int, ...]) -> torch.Tensor:
        """The farm's noise for what is seen beside the video's latents of the `number`-th condition after frame 0."""
        frame = [one for one in asked.conditioning_start_frames or () if one][number]
        start = -(-frame // 8)
        drawn = latent_noise(asked.seed, 0, STEP_POINT, start, start + shape[2], channels, height, width)
        return torch.from_numpy(drawn)[None]

    return ours, reference.run(asked, noise, beside)


def config_for_tiny(name: str, folder: Path, **changed: Any) -> str:
    """One of the published configs with ltx-tiny's checkpoint and blocks, as a file of a person's own."""
    settings = dict(published()[name]) | {
        "checkpoint_path": "ltx-tiny.safetensors",
        "text_encoder_max_tokens": 64,
        "prompt_enhancement_words_threshold": 0,
    }
    blocks = [[], [1, 3], [2, 3], [0], [1], [2], [3]]
    if "guidance_timesteps" in settings.get("first_pass", {}):
        settings["first_pass"] = dict(settings["first_pass"]) | {"skip_block_list": blocks}
    elif "skip_block_list" in settings:
        settings["skip_block_list"] = [4]
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings | changed))
    return str(path)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    pixels = np.full((203, 321, 3), (20, 30, 110), np.uint8)
    pixels[60:121, 80:141] = (220, 40, 40)
    Image.fromarray(pixels).save(tmp_path / "ball.png")
    return str(tmp_path / "ball.png")


SIZE = {"width": 160, "height": 100, "num_frames": 17, "frame_rate": 24, "seed": 5}


@pytest.mark.parametrize("name", ["ltxv-2b-0.9.6-distilled", "ltxv-13b-0.9.7-dev", "ltxv-2b-0.9.5"])
@pytest.mark.parametrize("held", [pytest.param(False, marks=pytest.mark.long), True])
def test_the_same_yaml_and_draws_give_the_same_latents(
    ltx: Ltx, reference: Reference, tmp_path: Path, picture: str, name: str, held: bool
):
    media = {"conditioning_media_paths": [picture], "conditioning_start_frames": [0]} if held else {}
    asked = InferenceConfig(
        prompt=PROMPT, pipeline_config=config_for_tiny(name, tmp_path), output_path=tmp_path, **SIZE, **media
    )
    ours, theirs = both(ltx, reference, asked, tmp_path)
    assert ours.shape == theirs.shape == (32, 3, 4, 5) and theirs.std() > 0.1
    assert (ours - theirs).abs().max() < CLOSE


@pytest.fixture
def clips(tmp_path: Path) -> Callable[[int], str]:
    """Clips of some frames of a square that moves, 322x242 at 25 a second."""
    return lambda count: _written(tmp_path / f"{count}.mp4", count)


def _written(path: Path, count: int) -> str:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 322, 242, "yuv420p"
        for number in range(count):
            pixels = np.full((242, 322, 3), (20, 30, 110), np.uint8)
            pixels[60:121, 40 + 6 * number : 101 + 6 * number] = (220, 40, 40)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return str(path)


def check(ltx: Ltx, reference: Reference, folder: Path, config: str, **given: Any) -> None:
    asked = InferenceConfig(prompt=PROMPT, pipeline_config=config, output_path=folder, **SIZE | given)
    ours, theirs = both(ltx, reference, asked, folder)
    assert theirs.std() > 0.1 and (ours - theirs).abs().max() < CLOSE


@pytest.mark.parametrize("mode", ["stg_t", "stg_r"])
def test_blocks_are_perturbed_alike_in_the_modes_that_no_published_config_has(ltx, reference, tmp_path, mode):
    changed = {"stg_mode": mode, "skip_block_list": [1, 3], "num_inference_steps": 4}
    check(ltx, reference, tmp_path, config_for_tiny("ltxv-2b-0.9.5", tmp_path, **changed))


@pytest.mark.parametrize("sampler", ["uniform", "linear-quadratic", "from_checkpoint"])
def test_steps_are_those_of_the_configs_sampler(ltx, reference, tmp_path, sampler):
    unguided = {"guidance_scale": 1, "stg_scale": 0, "num_inference_steps": 4}
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path, sampler=sampler, **unguided)
    check(ltx, reference, tmp_path, config)


@pytest.mark.parametrize("frame", [16, pytest.param(12, marks=pytest.mark.long)])
def test_a_clip_and_an_image_further_on_are_held_alike(ltx, reference, tmp_path, clips, picture, frame):
    config = config_for_tiny("ltxv-2b-0.9.8-distilled", tmp_path)
    held = {"conditioning_media_paths": [clips(9), picture], "conditioning_start_frames": [0, frame]}
    check(ltx, reference, tmp_path, config, **held)


@pytest.mark.parametrize(
    ("count", "frame", "strength"),
    [
        pytest.param(9, 16, 1.0, marks=pytest.mark.long),
        pytest.param(9, 8, 1.0, marks=pytest.mark.long),
        pytest.param(17, 8, 1.0, marks=pytest.mark.long),
        (25, 16, 0.6),
    ],
)
def test_a_clip_that_begins_further_on_is_held_alike(ltx, reference, tmp_path, clips, count, frame, strength):
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path)
    held = {"conditioning_media_paths": [clips(count)], "conditioning_start_frames": [frame]}
    check(ltx, reference, tmp_path, config, num_frames=41, conditioning_strengths=[strength], **held)


@pytest.mark.long
def test_clips_and_an_image_are_held_alike_with_fresh_noise_at_each_step(
    ltx, reference, tmp_path, clips, picture
):
    """All of what the model sees beside the video's latents gets noise of its own at each step."""
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path, stochastic_sampling=True)
    paths, frames = [clips(9), clips(17), picture], [0, 16, 40]
    held = {"conditioning_media_paths": paths, "conditioning_start_frames": frames}
    check(ltx, reference, tmp_path, config, num_frames=49, conditioning_strengths=[1.0, 0.8, 0.9], **held)


def test_an_image_is_held_at_half_its_strength_alike(ltx, reference, tmp_path, picture):
    # With many steps: in few, the farm takes away all noise in the last step, and theirs leaves what is above it.
    config = config_for_tiny("ltxv-2b-0.9.5", tmp_path)
    held = {"conditioning_media_paths": [picture], "conditioning_start_frames": [0]}
    check(ltx, reference, tmp_path, config, conditioning_strengths=[0.5], **held)


@pytest.mark.parametrize(
    "inside", [{"skip_initial_inference_steps": 25}, {"timesteps": [0.9, 0.7, 0.4, 0.1]}]
)
def test_a_video_is_made_over_alike(ltx, reference, tmp_path, clips, inside):
    check(
        ltx,
        reference,
        tmp_path,
        config_for_tiny("ltxv-2b-0.9.5", tmp_path, **inside),
        input_media_path=clips(21),
    )


def near_the_end(name: str, clips: Callable[[int], str], picture: str) -> dict[str, Any]:
    """Media whose places the farm chooses otherwise in its own jobs."""
    return {
        "an image on the last frame": {
            "num_frames": 17, "conditioning_media_paths": [picture], "conditioning_start_frames": [16],
        },
        "an image on the last of 18 frames, and one on the first": {
            "num_frames": 18, "conditioning_media_paths": [picture] * 2, "conditioning_start_frames": [0, 17],
        },
        "a clip in the middle, and an image on the last frame": {
            "num_frames": 41, "conditioning_media_paths": [clips(9), picture], "conditioning_start_frames": [16, 40],
        },
        "a clip of the video's length, held in part": {
            "num_frames": 17, "conditioning_media_paths": [clips(17)], "conditioning_start_frames": [0],
            "conditioning_strengths": [0.9],
        },
        "a clip that is longer than the video, made over": {
            "num_frames": 20, "input_media_path": clips(60),
        },
        "a clip made over, and another of its length held in part": {
            "num_frames": 17, "input_media_path": clips(60), "conditioning_media_paths": [clips(17)],
            "conditioning_start_frames": [0], "conditioning_strengths": [0.5],
        },
    }[name]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "an image on the last frame",
        pytest.param("an image on the last of 18 frames, and one on the first", marks=pytest.mark.long),
        pytest.param("a clip in the middle, and an image on the last frame", marks=pytest.mark.long),
        pytest.param("a clip of the video's length, held in part", marks=pytest.mark.long),
        "a clip that is longer than the video, made over",
        "a clip made over, and another of its length held in part",
    ],
)
def test_media_lie_where_the_original_lays_them(ltx, reference, tmp_path, clips, picture, name):
    given = near_the_end(name, clips, picture)
    inside = {"skip_initial_inference_steps": 25} if "input_media_path" in given else {}
    check(ltx, reference, tmp_path, config_for_tiny("ltxv-2b-0.9.5", tmp_path, **inside), **given)
