from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from plugins.ltx.reference import progress
from plugins.ltx.reference.batches import draw
from plugins.ltx.reference.pool import Group
from plugins.ltx.reference.progress import Clock, Record, cosine


def test_a_process_stopped_for_an_hour_has_trained_no_longer(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    clock = Clock(spent=100.0)
    for _ in range(20):
        now[0] += 0.5
        clock.tick()
    assert clock.spent == pytest.approx(110.0)
    now[0] += 3600.0
    clock.tick()
    assert clock.spent < 115.0
    now[0] += 50.0
    clock.skip()
    now[0] += 0.5
    clock.tick()
    assert clock.spent < 115.5


def test_the_learning_rate_rises_then_falls():
    rates = [cosine(done / 100, peak=1.0, floor=0.1) for done in range(101)]
    assert rates[0] < 0.1 and max(rates) == pytest.approx(1.0, abs=0.01) and rates[-1] == pytest.approx(0.1)
    assert all(before >= after for before, after in pairwise(rates[2:]))


def test_a_record_keeps_state_rows_and_curves(tmp_path):
    record = Record(tmp_path / "stage")
    assert record.load() is None
    record.save({"step": 3, "weights": torch.ones(2)})
    loaded = Record(tmp_path / "stage").load()
    assert loaded is not None and loaded["step"] == 3
    for step in range(3):
        record.log(step=step, seconds=step / 2, loss=1.0 / (step + 1))
    record.draw_curves()
    assert (record.folder / "log.csv").read_text().splitlines()[0] == "step,seconds,loss"


def _group(clips: int, latents: int, height: int, width: int) -> Group:
    shape = (clips, 4, latents, height, width)
    ordinary = torch.arange(latents).float()[None, None, :, None, None].expand(shape) + 1.0
    return Group(ordinary.half(), -ordinary.half(), [f"clip {clip}" for clip in range(clips)], [24.0] * clips)


def test_a_batch_gives_what_the_farm_gives_at_the_place_the_farm_gives_it():
    import numpy as np

    groups, seen = [_group(3, 16, 2, 3)], set()
    mean, std = torch.zeros(4), torch.ones(4)
    for seed in range(300):
        batch = draw(groups, mean, std, np.random.Generator(np.random.Philox(seed)), 300, caption_dropout=0.0)
        count, tokens, channels = batch.clean.shape
        assert batch.cap.shape == batch.graded.shape == (count, tokens) and batch.coords.shape == (
            count,
            3,
            tokens,
        )
        assert channels == 4 and tokens % 6 == 0 and len(batch.captions) == count
        given = batch.cap == 0.0
        assert not (batch.graded[given] > 0).any(), "what is given isn't graded"
        assert (batch.graded[batch.cap == 1.0] > 0).all(), "what is asked for is"
        images = batch.clean[..., 0] < 0
        assert (batch.cap[images] < 1.0).all(), "an image is only ever given"
        # An image of frame 8i stands at the time of its frame (beside the grid) or of its latent (in it).
        place = -batch.clean[..., 0][images] - 1.0
        frame = batch.coords[:, 0][images] * 24.0
        beside, inside = (frame - 8.0 * place).abs() < 1e-3, (frame - (8.0 * place - 7.0)).abs() < 1e-3
        assert (beside | inside).all()
        seen |= {"beside"} if beside.any() else set()
        seen |= {"inside"} if (inside & ~beside).any() else set()
        seen |= {"nothing"} if (~given).all(1).any() else set()
        seen |= {"partly"} if ((batch.cap > 0) & (batch.cap < 1)).any() else set()
    assert seen == {"beside", "inside", "nothing", "partly"}
