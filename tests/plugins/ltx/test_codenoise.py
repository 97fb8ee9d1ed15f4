"""Windows in lockstep: neighbours agree, and which process a window is in makes no difference."""

from __future__ import annotations

import multiprocessing
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from farm.plan import LATENTS, TaskKind, WindowTask
from farm.planning import Plan, PlannedTask
from farm.plugins import open_sampler
from farm.rendering import DeviceInfo, TaskContext
from farm.spec import parse_spec
from farm.timeline import Cut
from plugins.ltx.codenoise import Shared, average, run
from plugins.ltx.codenoise import given as gives
from plugins.ltx.conditioning import Condition, Replace
from plugins.ltx.denoise import Denoiser
from plugins.ltx.latents import load_latents
from plugins.ltx.loading import Ltx
from plugins.ltx.noise import latent_noise
from plugins.ltx.planning import TINY_FOLDER
from plugins.ltx.rendering import LtxModel
from plugins.ltx.text import encode_prompt
from scheduler.planning.plan import make_plan
from scheduler.planning.windows import averaging
from tests.plugins.ltx.local_plans import OFFERS, latents_made
from training.ltx_tiny.parts import MAX_TOKENS

CUTS = (Cut(0, 6), Cut(3, 9), Cut(6, 12))
SIGMAS = (0.9, 0.6, 0.3, 0.0)
C, H, W = 32, 2, 3


def drawn(stage: int, start: int, stop: int) -> torch.Tensor:
    return torch.from_numpy(latent_noise(7, stage, 0, start, stop, C, H, W))


def shares() -> list[list[Shared]]:
    """Of each window of CUTS what it shares with its neighbours, known by their index."""
    found: list[list[Shared]] = [[] for _ in CUTS]
    for index, (cut, weights) in enumerate(averaging(CUTS)):
        for mine, other in ((index, index + 1), (index + 1, index)):
            origin = CUTS[mine].start
            found[mine].append(
                Shared(str(other), other < mine, cut.start - origin, cut.stop - origin, weights)
            )
    return found


def denoiser(ltx: Ltx, index: int, sampler: str = "euler") -> Denoiser:
    """Bases differ a little where windows overlap, as upsampled storyboards do; one latent is given."""
    cut = CUTS[index]
    embeds, mask = encode_prompt(ltx, ["a blue box falling"])
    held = [Replace(drawn(3, 7, 8), 7 - cut.start)] if cut.start <= 7 < cut.stop else []
    return Denoiser(
        ltx, prompt=(embeds[0], mask[0]), noise=drawn(0, cut.start, cut.stop), sigmas=SIGMAS, fps=24.0,
        base=drawn(1, cut.start, cut.stop) * (1 + 0.01 * index), conditions=held,
        sampler=open_sampler(sampler, {}), fresh=lambda step: drawn(10 + step, cut.start, cut.stop),
    )  # fmt: skip


def through(board, me: int):
    """An exchange over a shared dict."""

    def exchange(number, mine):
        for key, array in mine.items():
            board[number, me, int(key)] = array
        found = {}
        for key in mine:
            while (number, int(key), me) not in board:
                time.sleep(0.002)
            found[key] = board[number, int(key), me]
        return found

    return exchange


def render(board, indices: list[int], folder: Path, sampler: str = "euler") -> None:
    """These windows in this process, one thread each; their latents as files."""
    torch.set_num_threads(1)
    ltx, turn = Ltx(TINY_FOLDER, max_tokens=MAX_TOKENS), threading.Lock()

    def one(index: int) -> None:
        exchange = through(board, index)

        def waiting(number, mine):
            turn.release()
            try:
                return exchange(number, mine)
            finally:
                turn.acquire()

        with turn:
            latents = run(denoiser(ltx, index, sampler), shares()[index], waiting)
        np.save(folder / f"{index}.npy", latents.numpy())

    threads = [threading.Thread(target=one, args=(index,)) for index in indices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> list[np.ndarray]:
    """The latents of all windows when one process renders them."""
    folder = tmp_path_factory.mktemp("together")
    render({}, [0, 1, 2], folder)
    return [np.load(folder / f"{index}.npy") for index in range(3)]


def test_neighbours_hold_the_same_latents_where_they_overlap(together):
    for index, (cut, _) in enumerate(averaging(CUTS)):
        left, right = (
            together[i][:, cut.start - CUTS[i].start : cut.stop - CUTS[i].start] for i in (index, index + 1)
        )
        assert np.abs(left - right).max() < 1e-5
        assert left.std() > 0.1


@pytest.mark.parametrize("sampler", ["euler_ancestral", "stochastic", "heun", "dpmpp_2m"])
def test_neighbours_agree_with_every_sampler(together, tmp_path, sampler):
    render({}, [0, 1, 2], tmp_path, sampler)
    made = [np.load(tmp_path / f"{index}.npy") for index in range(3)]
    test_neighbours_hold_the_same_latents_where_they_overlap(made)
    assert np.abs(made[0] - together[0]).max() > 1e-3, "it is another sampler"


def test_alone_they_would_not(tmp_path):
    ltx = Ltx(TINY_FOLDER, max_tokens=MAX_TOKENS)
    left, right = (denoiser(ltx, index).run() for index in (0, 1))
    assert (left[:, 4:6] - right[:, 1:3]).abs().max() > 0.05


def test_a_window_in_a_process_of_its_own_comes_out_the_same(together, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        board = manager.dict()
        other = spawn.Process(target=render, args=(board, [1], tmp_path))
        other.start()
        render(board, [0, 2], tmp_path)
        other.join()
    for index in range(3):
        np.testing.assert_array_equal(np.load(tmp_path / f"{index}.npy"), together[index])


def test_a_window_without_neighbours_is_denoised_as_ever():
    ltx = Ltx(TINY_FOLDER, max_tokens=MAX_TOKENS)
    alone = run(denoiser(ltx, 1), [], lambda number, mine: {})
    assert (alone - denoiser(ltx, 1).run()).abs().max() < 1e-4


class Overheard(LtxModel):
    """Keeps the fresh noise [C, n, h, w] that samplers draw, by task and step."""

    def __init__(self) -> None:
        super().__init__(Ltx(TINY_FOLDER, max_tokens=MAX_TOKENS), DeviceInfo("cpu", 0, 1, 0))
        self.drawn: dict[str, dict[int, torch.Tensor]] = {}

    def _denoiser(
        self, task: TaskContext, told: WindowTask, base: torch.Tensor | None, conditions: list[Condition]
    ) -> Denoiser:
        made = super()._denoiser(task, told, base, conditions)
        fresh = made._fresh
        assert fresh

        def draw(step: int) -> torch.Tensor:
            noise = fresh(step)
            self.drawn.setdefault(task.key, {})[step] = noise
            return noise

        made._fresh = draw
        return made


def planned(strategy: str, sampler: str) -> tuple[Plan, list[PlannedTask]]:
    """A plan of three windows over a storyboard, each with three steps, and its windows."""
    spec = {
        "frames": 121, "width": 64, "height": 64, "prompt": "a red ball", "steps": 9, "strategy": strategy,
        "window_latents": 9, "overlap_latents": 3, "sampler": sampler,
    }  # fmt: skip
    plan = make_plan(
        parse_spec(spec), model=OFFERS.models["ltx-tiny"], weights="w", strategy=OFFERS.strategies[strategy],
        output=OFFERS.outputs["mp4"], sampler=OFFERS.samplers[sampler],
    )  # fmt: skip
    windows = [task for task in plan.tasks if task.kind is TaskKind.WINDOW]
    assert len(windows) == 3
    return plan, windows


@pytest.mark.parametrize("sampler", ["stochastic", "euler_ancestral"])
@pytest.mark.parametrize("strategy", ["codenoise", "hierarchical"])
def test_neighbours_of_a_job_are_handed_the_same_fresh_noise_where_they_overlap(tmp_path, strategy, sampler):
    """In lockstep they agree in the end whatever the noise, so the noise itself is compared."""
    (plan, windows), model = planned(strategy, sampler), Overheard()
    made = latents_made(model, plan, tmp_path).files
    for left, right in pairwise(windows):
        shared = slice(right.start - left.start, None), slice(None, left.stop - right.start)
        assert left.stop - right.start >= 3
        of_left, of_right = model.drawn[left.key], model.drawn[right.key]
        assert of_left.keys() == of_right.keys() and len(of_left) >= 2, "but for the last step, each draws"
        for step, noise in of_left.items():
            assert noise.shape[1] == left.stop - left.start
            assert torch.equal(noise[:, shared[0]], of_right[step][:, shared[1]])
            assert noise.std() > 0.5 and not torch.equal(noise, of_right[step]), "elsewhere it is another"
        assert not torch.equal(of_left[0], of_left[1]), "each step has its own"
        if strategy == "codenoise":
            ends = [load_latents(made[task.key, LATENTS]) for task in (left, right)]
            apart = (ends[0][:, shared[0]] - ends[1][:, shared[1]]).abs().max()
            assert apart <= 1e-4 and ends[0].std() > 0.1


HALF = 2e-3
"""A number up to 4 in half precision is nearer than this."""


def settled(left: np.ndarray, right: np.ndarray, weights) -> np.ndarray:
    """What neighbours settle on."""
    return average(gives(left, weights), gives(right, [1 - weight for weight in weights]), weights)


values = arrays(np.float32, (2, 3, 2, 2), elements=st.floats(-4, 4, width=32))
weights = st.lists(st.floats(0, 1), min_size=3, max_size=3)


@given(values, values, weights)
def test_an_average_lies_between_and_where_both_agree_changes_nothing(left, right, weights):
    both = settled(left, right, weights)
    low, high = np.minimum(left, right), np.maximum(left, right)
    assert both.dtype == np.float32
    share = np.array(weights)[:, None, None]
    np.testing.assert_allclose(both, share * left + (1 - share) * right, atol=2 * HALF)
    assert (both >= low - HALF).all() and (both <= high + HALF).all()
    np.testing.assert_allclose(settled(left, left, weights), left, atol=HALF)


@given(values, values)
def test_run_up_counts_for_nothing(left, right):
    assert gives(right, (0.0, 0.5, 0.5)).shape[1] == 2
    np.testing.assert_allclose(settled(left, right, (1.0, 0.5, 0.5))[:, 0], left[:, 0], atol=HALF)


def test_what_does_not_fit_together_is_refused():
    here = np.zeros((2, 3, 2, 2), np.float16)
    with pytest.raises(ValueError, match=r"\[1.0, 0.5\]"):
        average(here, here, (1.0, 0.5))


@given(st.integers(2, 6), st.integers(2, 5))
def test_weights_of_both_sides_sum_to_one_and_fall_from_left_to_right(count, overlap):
    cuts = [Cut(i * 8, i * 8 + 8 + overlap) for i in range(count)]
    for cut, weights in averaging(cuts):
        assert len(weights) == len(cut) == overlap
        assert weights[0] == 1.0 and all(0 < w < 1 for w in weights[1:])
        assert list(weights) == sorted(weights, reverse=True)
