"""Measures how fast one thread of this machine multiplies matrices.

The measurement runs in a separate process with one thread, because BLAS reads the number of threads only when BLAS is
loaded.
"""

from __future__ import annotations

import subprocess
import time

from farm.processes.children import child_environment, python_command

_SECONDS = 0.05
_SIDE = 384


def measure_thread_flops() -> float:
    """Return the speed of one CPU thread in fp32 FLOPs a second, measured for 50 ms in a separate process."""
    alone = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}
    done = subprocess.run(
        python_command("nodeagent.flops"),
        env=child_environment() | alone,
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def _multiply() -> float:
    import numpy as np

    factor = np.ones((_SIDE, _SIDE), dtype=np.float32)
    result = np.empty_like(factor)
    np.matmul(factor, factor, out=result)
    # Processor time: other load on the machine is not this thread's slowness.
    flops, began, ends = 0.0, time.process_time(), time.monotonic() + _SECONDS
    while time.monotonic() < ends:
        np.matmul(factor, factor, out=result)
        flops += 2.0 * _SIDE**3
    return flops / max(time.process_time() - began, 1e-3)


if __name__ == "__main__":
    print(_multiply())
