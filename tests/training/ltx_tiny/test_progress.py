from __future__ import annotations

import time
from itertools import pairwise

import pytest
import torch

from training.ltx_tiny import progress
from training.ltx_tiny.progress import Clock, Record, cosine


def test_a_process_stopped_for_an_hour_has_trained_no_longer(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
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


def test_a_process_that_waits_for_the_cores_has_trained_no_longer(monkeypatch):
    busy = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: busy[0])
    clock = Clock(now=progress.of_the_cpu(threads=2))
    for _ in range(20):
        busy[0] += 3.0  # of both cores, however long that takes
        clock.tick()
    assert clock.spent == pytest.approx(30.0)


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
