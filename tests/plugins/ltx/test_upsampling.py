"""A model with a latent upsampler: what it makes of a storyboard, and that a job's weights say whether it is there."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXLatentUpsamplePipeline
from diffusers.pipelines.ltx import LTXLatentUpsamplerModel

from farm.plan import LATENTS, Piece, TaskKind, WindowTask
from farm.planning import PlannedTask
from farm.plugins import planning_plugins
from farm.rendering import DeviceInfo, TaskContext
from farm.spec import parse_spec
from nodeagent.offers import offers
from plugins.ltx.blend import upsample
from plugins.ltx.latents import assemble, load_latents, save_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.rendering import LtxModel, farm_load_model
from plugins.ltx.upsampling import double, worth_doubling
from plugins.ltx.weights import weights_hash
from renderer.local import LocalJob, by_model
from scheduler.planning.plan import make_plan
from tests.plugins.ltx.local_plans import OFFERS, decoded, latents_made
from tests.told import WINDOW, job_part

CPU = DeviceInfo("cpu", 0, 2, 0)


def add_upsampler(folder: Path, **changed: object) -> Path:
    """Puts a small one, its weights random, into a model's folder."""
    torch.manual_seed(0)
    config = {"in_channels": 32, "mid_channels": 32, "num_blocks_per_stage": 1} | changed
    LTXLatentUpsamplerModel(**config).save_pretrained(folder / "latent_upsampler")
    return folder


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def with_upsampler(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("upsampler") / "model"
    return add_upsampler(Path(shutil.copytree(tiny_folder, folder)))


def latents(*shape: int, seed: int = 1) -> torch.Tensor:
    return 1.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.3


@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_doubling_is_what_diffusers_pipeline_does(copied, scale):
    config = copied / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": scale}))
    ltx, small = Ltx(add_upsampler(copied)), latents(32, 5, 3, 4)
    large = double(ltx, small)
    assert "vae" not in ltx._parts, "a window has no other use for it"
    pipeline = LTXLatentUpsamplePipeline(
        vae=AutoencoderKLLTXVideo.from_pretrained(copied, subfolder="vae"),
        latent_upsampler=LTXLatentUpsamplerModel.from_pretrained(copied, subfolder="latent_upsampler"),
    )
    theirs = pipeline(
        latents=small[None], height=192, width=256, adain_factor=1.0, output_type="latent"
    ).frames[0]
    assert large.shape == theirs.shape == (32, 5, 6, 8)
    assert (large - theirs).abs().max() < 1e-4
    assert (large - upsample(small, 6, 8)).abs().mean() > 0.1, "and isn't interpolation"


def test_doubling_keeps_the_mean_and_spread_of_every_channel(with_upsampler):
    small = latents(32, 4, 3, 4) * torch.arange(1.0, 33.0)[:, None, None, None]
    large = double(Ltx(with_upsampler), small)
    over = (1, 2, 3)
    assert torch.allclose(large.std(over), small.std(over), rtol=1e-3)
    assert torch.allclose(large.mean(over), small.mean(over), atol=1e-2)


@pytest.mark.parametrize(
    ("height", "width", "worth"),
    [(18, 32, True), (12, 22, True), (9, 17, True), (8, 22, False), (12, 16, False), (6, 11, False)],
)
def test_only_what_is_wanted_nearer_twice_the_size_is_doubled(height, width, worth):
    assert worth_doubling(torch.zeros(1, 1, 6, 11), height, width) is worth


def offered(folder: Path, cache: Path) -> str:
    """The weights of ltx-tiny that a node offers whose config names this folder for it."""
    found = offers(planning_plugins(), {"ltx-tiny": str(folder)}, cache)
    return next(offer["weights"] for offer in found if offer["model"] == "ltx-tiny")


def test_nodes_with_and_without_an_upsampler_offer_different_weights(tiny_folder, copied, tmp_path):
    cache = tmp_path / "cache"
    without = offered(copied, cache)
    assert without == offered(tiny_folder, cache)
    assert offered(add_upsampler(copied), cache) != without


def test_every_byte_of_an_upsampler_counts_towards_the_weights_hash(copied, tmp_path):
    without = weights_hash(copied)
    path = add_upsampler(copied) / "latent_upsampler" / "diffusion_pytorch_model.safetensors"
    having = weights_hash(copied)
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    assert len({without, having, weights_hash(copied)}) == 3
    content[-2] ^= 1
    path.write_bytes(content)
    elsewhere = (copied / "latent_upsampler").rename(tmp_path / "upscaler")
    (copied / "latent_upsampler").symlink_to(elsewhere)
    assert weights_hash(copied) == having, "a link to it will do"


def test_a_folder_without_an_upsampler_in_it_is_said_so(copied):
    (copied / "latent_upsampler").mkdir()
    with pytest.raises(FileNotFoundError, match="latent_upsampler"):
        weights_hash(copied)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"temporal_upsample": True}, "keeps the number of frames"),
        ({"spatial_upsample": False, "temporal_upsample": True}, "keeps the number of frames"),
        ({"in_channels": 64}, "64 channels, but the VAE's latents have 32"),
    ],
)
def test_an_upsampler_of_another_kind_is_refused(copied, changed, message):
    ltx = Ltx(add_upsampler(copied, **changed))
    with pytest.raises(ValueError, match=f"latent_upsampler: .*{message}"):
        double(ltx, latents(32, 2, 2, 2))


def test_an_upsampler_computes_in_what_the_transformer_does_and_can_be_let_go(with_upsampler):
    ltx = Ltx(with_upsampler, precision="fp8")
    assert ltx.latent_upsampler.dtype == torch.bfloat16
    large, exact = (double(one, latents(32, 3, 2, 2)) for one in (ltx, Ltx(with_upsampler)))
    assert large.dtype == torch.float32 and 0 < (large - exact).abs().mean() < 0.1
    before = ltx.latent_upsampler
    ltx.release("latent_upsampler")
    assert ltx.latent_upsampler is not before


def load(folder: Path) -> LtxModel:
    model = farm_load_model("ltx-tiny", str(folder), "fp32", CPU)
    assert isinstance(model, LtxModel)
    return model


def test_a_warm_model_stays_what_its_hash_was_when_an_upsampler_is_added(copied):
    model = load(copied)
    add_upsampler(copied)
    assert not model._upsamples and load(copied)._upsamples


def plan_of(frames: int, width: int, height: int, **fields: object):
    spec = {"frames": frames, "width": width, "height": height, "fps": 24, "steps": 2, "prompt": "a red ball"}
    return make_plan(
        parse_spec(spec | fields), model=replace(OFFERS.models["ltx-tiny"], clock_seconds=4.0), weights="w",
        strategy=OFFERS.strategies["hierarchical"], output=OFFERS.outputs["mp4"],
    )  # fmt: skip


def bases_seen(model: LtxModel, monkeypatch: pytest.MonkeyPatch) -> dict[int, torch.Tensor]:
    """What each window will be refined from, by the latent at which it starts."""
    bases, real = {}, model._base

    def base(task: TaskContext, told: WindowTask, pieces: Sequence[Piece]) -> torch.Tensor:
        bases[told.start] = made = real(task, told, pieces)
        return made

    monkeypatch.setattr(model, "_base", base)
    return bases


def test_windows_are_refined_from_what_the_upsampler_made_and_neighbours_from_the_same(
    tiny_folder, with_upsampler, tmp_path, monkeypatch
):
    """Fifteen latents wide of five, so that half of the way is interpolated; a storyboard in windows of its own."""
    plan = plan_of(frames=161, width=480, height=288)
    stories = [task for task in plan.tasks if task.kind is TaskKind.STORYBOARD]
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    assert len(stories) > 1 and len(windows) > 1
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    model, without = load(with_upsampler), load(tiny_folder)
    bases, interpolated = bases_seen(model, monkeypatch), bases_seen(without, monkeypatch)
    frames = decoded(model, plan, latents_made(model, plan, tmp_path / "with"))
    assert frames.shape == (161, 288, 480, 3) and frames.std() > 5
    for left, right in itertools.pairwise(windows):
        shared = left.stop - right.start
        assert shared > 0
        assert torch.equal(bases[left.start][:, -shared:], bases[right.start][:, :shared])
    latents_made(without, plan, tmp_path / "without")
    for start, base in bases.items():
        assert base.shape == interpolated[start].shape
        assert (base - interpolated[start]).abs().mean() > 0.1


def refining(model: LtxModel, folder: Path, *storyboards: str) -> TaskContext:
    """A window of the model's that may fetch these storyboards, which lie in `folder` under their keys."""
    job = LocalJob(job_part(), folder, by_model(model))
    job.files |= {(key, LATENTS): folder / key for key in storyboards}
    return job.context(PlannedTask("window/0", TaskKind.WINDOW, storyboards, WINDOW.payload()))


@pytest.mark.parametrize("has_one", [False, True])
def test_interpolation_alone_is_as_it_was(tiny_folder, with_upsampler, tmp_path, has_one):
    """Where there is no upsampler; and where it would take the storyboard too far."""
    height, width = (6, 7) if has_one else (18, 32)
    space = Ltx(tiny_folder).space
    parts = {"storyboard/0": (0, 9), "storyboard/1": (6, 14)}
    for key, (start, stop) in parts.items():
        (tmp_path / key).parent.mkdir(exist_ok=True)
        save_latents(tmp_path / key, latents(32, stop - start, 6, 5), start, torch.float32, space)
    pieces = [
        Piece(2, 7, "storyboard/0"),
        Piece(7, 9, "storyboard/0", "storyboard/1"),
        Piece(9, 12, "storyboard/1"),
    ]
    model = load(with_upsampler if has_one else tiny_folder)
    task = refining(model, tmp_path, *parts)
    expected = upsample(assemble(pieces, lambda key: tmp_path / key, 2, 12), height, width)
    told = replace(WINDOW, start=2, stop=12, width=32 * width, height=32 * height)
    assert torch.equal(model._base(task, told, pieces), expected)
    assert "latent_upsampler" not in model._ltx._parts


def test_a_storyboard_of_the_common_size_is_doubled_then_interpolated(with_upsampler, tmp_path):
    """1024x576: 11x6 latents become 22x12, and those 32x18."""
    model, small = load(with_upsampler), latents(32, 3, 6, 11)
    save_latents(tmp_path / "story", small, 4, torch.float32)
    task = refining(model, tmp_path, "story")
    drawn = model._drawn(task, "story", 18, 32)
    doubled = double(model._ltx, small)
    assert doubled.shape == (32, 3, 12, 22)
    assert torch.equal(load_latents(drawn, 4, 7), upsample(doubled, 18, 32))
    with pytest.raises(ValueError, match="contains latents"):
        load_latents(drawn, 3, 7)
