"""Lightricks' own `infer()` and the farm's `farmctl inference` on the same YAML, media and draws, for tests that compare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from ltx_video.pipelines import pipeline_ltx_video
from ltx_video.schedulers.rf import RectifiedFlowScheduler

from farm.inference.arguments import InferenceConfig
from farm.inference.conditions import prepare_conditions
from farm.inference.configs import find_config, published
from farm.inference.mapping import InferenceJob, job_of
from farm.media.clips import probe, resampled_count
from farm.plan import LATENTS, media_name
from farm.rendering import DeviceInfo
from farm.spec import frame_rate, parse_spec
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.rendering import STEP_POINT, STEP_START, STEPS_EXTRA, STEPS_FRESH, STEPS_SHAKING, LtxModel
from renderer.local import LocalJob, by_model
from scheduler.planning.conditions import PreparedMedia
from scheduler.planning.plan import make_plan, strategy_of
from tests.parity.lightricks import Lightricks
from tests.parity.script import script
from tests.plugins.ltx.local_plans import OFFERS

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


def prepared(
    job: InferenceJob, asked: InferenceConfig, folder: Path
) -> tuple[list[PreparedMedia], dict[str, Path]]:
    """What the command sends of the call's media, as the planner and the renderer get it."""
    conditions, _ = prepare_conditions(job, asked, folder)
    media = [
        PreparedMedia(
            f"a{index}",
            one.frame,
            resampled_count(probe(one.path), frame_rate(asked.frame_rate)),
            one.strength,
        )
        for index, one in enumerate(conditions)
    ]
    return media, {media_name(index): Path(one.path) for index, one in enumerate(conditions)}


def by_farm(ltx: Ltx, asked: InferenceConfig, folder: Path) -> torch.Tensor:
    job = job_of(asked, find_config(asked.pipeline_config), "ltx-tiny")
    media, files = prepared(job, asked, folder)
    spec = parse_spec(dict(job.fields))
    plan = make_plan(
        spec,
        model=OFFERS.models["ltx-tiny"],
        weights="w",
        strategy=OFFERS.strategies[strategy_of(spec)],
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


SIZE = {"width": 160, "height": 100, "num_frames": 17, "frame_rate": 24, "seed": 5}


def check(ltx: Ltx, reference: Reference, folder: Path, config: str, **given: Any) -> None:
    asked = InferenceConfig(prompt=PROMPT, pipeline_config=config, output_path=folder, **SIZE | given)
    ours, theirs = both(ltx, reference, asked, folder)
    assert theirs.std() > 0.1 and (ours - theirs).abs().max() < CLOSE
