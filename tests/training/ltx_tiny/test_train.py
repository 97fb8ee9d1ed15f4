"""An exported checkpoint is trained on from its folder, by the commands that a user types."""

from __future__ import annotations

import pytest
import torch
from click.testing import CliRunner

from plugins.ltx.loading import Ltx
from plugins.ltx.planning import TINY_FOLDER
from training.ltx_tiny import pool
from training.ltx_tiny.pool import Kind
from training.ltx_tiny.progress import Record
from training.ltx_tiny.train import main


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Call a stage of a training in ``tmp_path`` whose pool is of one small kind."""
    monkeypatch.setattr(pool, "KINDS", (Kind(96, 96, 2, 1.0, (64, 64)),))

    def call(*words: str) -> str:
        done = CliRunner().invoke(main, ["--run", str(tmp_path / "run"), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


def test_an_exported_checkpoint_is_trained_on_and_its_latents_stay_as_they_were(run, tmp_path):
    run("import", str(TINY_FOLDER))
    run("latents", "--clips", "2")
    first = pool.read(tmp_path / "run" / "pool")[0]
    assert first.latents.shape == first.images.shape == (2, 32, 2, 3, 3)
    assert first.boards is not None and first.boards.shape == (2, 32, 2, 2, 2)
    run("latents", "--clips", "3")
    grown = pool.read(tmp_path / "run" / "pool")[0]
    assert len(grown.captions) == 3 and torch.equal(grown.latents[:2], first.latents)

    run("onward", "--minutes", "0.001", "--tokens", "40")
    state = Record(tmp_path / "run" / "onward").load()
    assert state is not None and state["step"] >= 1
    run("onward", "--minutes", "0.001", "--tokens", "40")
    again = Record(tmp_path / "run" / "onward").load()
    assert again is not None and again["step"] == state["step"], "its time is spent"
    run("few-step", "--minutes", "0.001", "--tokens", "40")
    run("export", str(tmp_path / "made"))

    before, after = Ltx(TINY_FOLDER, max_tokens=64), Ltx(tmp_path / "made", max_tokens=64)
    assert all(torch.equal(*pair) for pair in zip(before.space, after.space, strict=True))
    for part in ("vae", "transformer", "text_encoder"):
        was, now = (getattr(ltx, part).state_dict() for ltx in (before, after))
        assert was.keys() == now.keys()
        assert all(torch.allclose(was[name], now[name], atol=0.05) for name in was)
        assert part != "vae" or all(torch.equal(was[name], now[name]) for name in was)


def test_there_is_nothing_to_train_on_without_an_import(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="start"):
        (tmp_path / "run" / "pool").mkdir(parents=True)
        group = pool.Group(torch.zeros(2, 32, 2, 3, 3), torch.zeros(2, 32, 2, 3, 3), ["a", "b"], [24.0, 24.0])
        torch.save(vars(group), tmp_path / "run" / "pool" / "0.pt")
        run("onward", "--minutes", "0.001")
