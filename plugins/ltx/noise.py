"""Noise that is the same on every machine: a pure function of a key and a counter.

This module uses only those parts of numpy that are exact on every machine: the raw Philox words, IEEE ``+ - * / sqrt``,
and frexp. Numpy doesn't promise that its normal distribution stays the same. Library functions such as log and cos
differ between instruction sets, so this module has its own logarithm.
"""

from __future__ import annotations

import numpy as np

_LN2 = 0.6931471805599453
_SQRT_HALF = 0.7071067811865476

# Coefficients of AS241 PPND16, lowest power first.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_SHOULDER = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_TAIL = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)


def latent_noise(
    seed: int, stage: int, step: int, start: int, stop: int, channels: int, height: int, width: int
) -> np.ndarray:
    """Return standard normal noise for a range of latents of the video's timeline.

    The noise of each latent depends only on the seed, the stage, the step and the latent's index. So windows that
    overlap get the same noise, and so does a retry. The noise of a latent comes from a Philox stream. The stream's key
    is the seed, and its counter begins at (0, latent, step, stage).

    Args:
        seed: Seed of the job.
        stage: Number of the stage that uses the noise. Each stage gets different noise.
        step: Number of the use of noise within the stage. Each sampling step, for example, has a number of its own.
        start: First latent.
        stop: The latent after the last one.
        channels: Channels of a latent.
        height: Height in latents.
        width: Width in latents.

    Returns:
        float32 [channels, stop - start, height, width].

    Raises:
        ValueError: The seed, stage, step or start is negative, or the range or a size is empty.
    """
    if not 0 <= start < stop:
        raise ValueError(f"start, stop: must satisfy 0 <= start < stop, got {start}, {stop}")
    if min(channels, height, width) < 1:
        raise ValueError(
            f"channels, height, width: must each be at least 1, got {channels}, {height}, {width}"
        )
    noise = np.empty((channels, stop - start, height, width), dtype=np.float32)
    for latent in range(start, stop):
        drawn = normals(seed, (0, latent, step, stage), channels * height * width)
        noise[:, latent - start] = drawn.reshape(channels, height, width)
    return noise


def normals(key: int, counter: tuple[int, int, int, int], count: int) -> np.ndarray:
    """Return ``count`` standard normal numbers, float64, from a Philox stream.

    ``key`` selects the stream; it is below 2**128. ``counter`` is the place in the stream where the numbers begin: four
    words, each below 2**64.
    Raises ValueError if the key or a word of the counter is out of range.
    """
    if not 0 <= key < 2**128:
        raise ValueError(f"seed: must be from 0 to 2**128 - 1, got {key}")
    if not all(0 <= word < 2**64 for word in counter):
        raise ValueError(f"counter: each number must be from 0 to 2**64 - 1, got {counter}")
    words = np.random.Philox(key=key, counter=np.array(counter, dtype=np.uint64)).random_raw(count)
    # 52 bits and a half: exact in a double, symmetric, and never 0 or 1.
    return quantile(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)


def quantile(probability: np.ndarray) -> np.ndarray:
    """Return the standard normal quantile of float64 probabilities in (0, 1), to about 1e-16.

    Algorithm AS241 (PPND16), M. J. Wichura, Applied Statistics 37 (1988) 477-484.
    """
    q = probability - 0.5
    r = 0.180625 - q * q
    result = q * _rational(_CENTRE, r)
    outer = np.flatnonzero(r < 0.0)
    if outer.size:
        p, sign = probability[outer], np.where(q[outer] < 0.0, -1.0, 1.0)
        r = np.sqrt(-_log(np.minimum(p, 1.0 - p)))
        far = r > 5.0
        value = _rational(_SHOULDER, r - 1.6)
        if far.any():
            value[far] = _rational(_TAIL, r[far] - 5.0)
        result[outer] = sign * value
    return result


def _rational(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: np.ndarray) -> np.ndarray:
    above, below = (_horner(row, x) for row in coefficients)
    above /= below
    return above


def _horner(coefficients: tuple[float, ...], x: np.ndarray) -> np.ndarray:
    total = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total *= x
        total += coefficient
    return total


def _log(x: np.ndarray) -> np.ndarray:
    """Natural logarithm of positive doubles: 2 artanh((m - 1) / (m + 1)) + e ln 2 with m near 1."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < _SQRT_HALF
    mantissa = np.where(low, mantissa * 2.0, mantissa)
    exponent = exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _horner(tuple(2.0 / (2 * k + 1) for k in range(11)), s * s)
    return exponent * _LN2 + s * series
