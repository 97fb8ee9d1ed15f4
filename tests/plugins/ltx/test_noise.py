from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.ltx.noise import latent_noise, normals, quantile

GOLDEN = "9cde8953584190407ce884ff8ba435bea3c2285928d1ed1f97f10a2a5dfd08d9"


def test_noise_is_these_very_bits():
    noise = latent_noise(1234, 2, 3, 5, 9, 128, 18, 32)
    assert hashlib.sha256(noise.astype("<f4").tobytes()).hexdigest() == GOLDEN


def test_noise_is_the_same_bits_on_a_plainer_processor():
    code = (
        "import hashlib; from plugins.ltx.noise import latent_noise; "
        "print(hashlib.sha256(latent_noise(1234, 2, 3, 5, 9, 128, 18, 32).tobytes()).hexdigest())"
    )
    # numpy then uses the loops it has for older processors.
    wide = np.show_config("dicts")["SIMD Extensions"].get("found", [])
    plain = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(wide)}
    made = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert made.stdout.strip() == GOLDEN


@given(
    seed=st.integers(0, 2**63),
    start=st.integers(0, 2**20),
    cuts=st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 5)),
)
def test_overlapping_spans_see_the_same_noise(seed, start, cuts):
    before, inside, _ = cuts
    whole = latent_noise(seed, 1, 0, start, start + sum(cuts), 4, 3, 2)
    part = latent_noise(seed, 1, 0, start + before, start + before + inside, 4, 3, 2)
    assert np.array_equal(whole[:, before : before + inside], part)


def test_seed_stage_step_and_latent_each_give_other_noise():
    draws = [
        latent_noise(seed, stage, step, latent, latent + 1, 8, 4, 4)
        for seed, stage, step, latent in [
            (0, 0, 0, 0),
            (1, 0, 0, 0),
            (0, 1, 0, 0),
            (0, 0, 1, 0),
            (0, 0, 0, 1),
        ]
    ]
    for number, left in enumerate(draws):
        for right in draws[number + 1 :]:
            assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 0.4
            assert not np.array_equal(left, right)


def test_noise_is_standard_normal():
    noise = latent_noise(7, 0, 0, 0, 12, 128, 18, 32).astype(np.float64).ravel()
    count = noise.size
    assert abs(noise.mean()) < 4 / count**0.5
    assert abs(noise.var() - 1) < 4 * (2 / count) ** 0.5
    assert abs((noise**3).mean()) < 4 * (15 / count) ** 0.5
    assert abs((noise**4).mean() - 3) < 4 * (96 / count) ** 0.5
    for level in (0.001, 0.05, 0.5, 0.9, 0.999):
        share = (noise < statistics.NormalDist().inv_cdf(level)).mean()
        assert abs(share - level) < 4 * (level * (1 - level) / count) ** 0.5
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 4 / count**0.5


def test_quantiles_are_the_published_ones():
    # AS241's own check values, and the tails the generator can reach.
    levels = np.array([0.25, 0.001, 1e-20, 0.5, 0.975])
    expected = [-0.6744897501960817, -3.090232306167814, -9.262340089798408, 0.0, 1.959963984540054]
    assert quantile(levels) == pytest.approx(expected, rel=1e-14)
    levels = np.concatenate([np.linspace(0.001, 0.999, 999), 2.0 ** -np.arange(2, 53)])
    known = [statistics.NormalDist().inv_cdf(level) for level in levels]
    assert quantile(levels) == pytest.approx(known, rel=1e-13, abs=1e-15)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**128}, "seed"),
        ({"step": -1}, "counter"),
        ({"start": -1}, "start"),
        ({"stop": 0}, "stop"),
        ({"height": 0}, "height"),
    ],
)
def test_arguments_out_of_range_are_named(changed, named):
    good = {"seed": 0, "stage": 0, "step": 0, "start": 0, "stop": 1, "channels": 1, "height": 1, "width": 1}
    with pytest.raises(ValueError, match=named):
        latent_noise(**(good | changed))


def test_normals_of_one_key_begin_alike_whatever_the_count():
    assert np.array_equal(normals(5, (0, 0, 0, 0), 10), normals(5, (0, 0, 0, 0), 1000)[:10])


def test_noise_sigmas_and_weights_need_no_torch():
    code = "import sys, plugins.ltx.noise, plugins.ltx.sigmas, plugins.ltx.weights; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
