"""Finds this machine's devices: NVIDIA GPUs through NVML, AMD GPUs through sysfs, Apple GPUs by platform.

If there is no GPU, the device is the CPU. If a driver doesn't give a value, or gives "[N/A]", the device's field stays
empty and the probe continues. Some functions read values from drivers and files; others only interpret these values.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from farm.v1 import nodes_pb2
from nodeagent.flops import measure_thread_flops

FP8_FROM = (8, 9)
"""First CUDA compute capability with fp8 matrix products (Ada)."""

_TENSOR_FACTOR = {
    (7, 0): 8.0,
    (7, 5): 4.0,
    (8, 0): 16.0,
    (8, 6): 2.0,
    (8, 9): 2.0,
    (9, 0): 15.0,
    (10, 0): 28.0,
    (12, 0): 2.0,
}
"""Dense bf16 rate with fp32 accumulation over the plain fp32 rate, by compute capability (NVIDIA's data sheets)."""

_APPLE_FLOPS = 5e12
"""A guess between an M1 Pro and an M3 Max; Apple tells no clock."""


_EXCUSES = {"N/A", "ERR!", "NOT SUPPORTED", "UNKNOWN ERROR", "NO DATA"}


@dataclass(frozen=True)
class ProbedDevice:
    """A device of this machine. `advertised` is what the node tells the farm about the device.

    `index` is the device's number among this machine's devices of the same backend.
    """

    advertised: nodes_pb2.Device
    index: int


def number(value: Any) -> float:
    """Return a value from a driver as a number; 0 if the value isn't valid.

    Invalid values are "[N/A]", None, a negative number, and a number with all bits set.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        return 0.0
    return found if 0 <= found < 2**63 else 0.0


def text(value: Any) -> str:
    """Return a value from a driver as text; "" if the driver has no value.

    A driver that has no value gives a text in brackets, such as "[N/A]", or a word such as "N/A".
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    found = str(value).strip() if value is not None else ""
    excuse = found.startswith("[") and found.endswith("]")
    return "" if excuse or found.upper() in _EXCUSES else found


def cuda_device(index: int, readings: Mapping[str, Any], threads: int) -> nodes_pb2.Device:
    """Return a CUDA device, made from values that NVML gives.

    `readings` has the keys name, memory (bytes), capability (major, minor), driver, cores and clock (MHz).

    The device's speed is cores x clock x 2 (fp32 multiply-adds), times a factor. The factor is the bf16 rate of the
    tensor cores divided by the plain fp32 rate. It depends on the compute capability.
    """
    capability = readings.get("capability")
    try:
        major, minor = (int(part) for part in capability)  # type: ignore[union-attr]
        known = True
    except (TypeError, ValueError, OverflowError):
        major = minor = 0
        known = False
    plain = number(readings.get("cores")) * number(readings.get("clock")) * 1e6 * 2
    return nodes_pb2.Device(
        name=f"cuda{index}",
        backend="cuda",
        model=text(readings.get("name")),
        vram_bytes=int(number(readings.get("memory"))),
        compute_capability=f"{major}.{minor}" if known else "",
        fp8=known and (major, minor) >= FP8_FROM,
        driver=text(readings.get("driver")),
        flops_per_second=plain * _TENSOR_FACTOR.get((major, minor), 2.0 if known else 1.0),
        threads=threads,
    )


def kfd_properties(content: str) -> dict[str, int]:
    """Return the values in a file /sys/class/kfd/kfd/topology/nodes/*/properties, by name.

    `content` is the text of the file. Lines that don't consist of a name and a number are left out.
    """
    found = {}
    for line in content.splitlines():
        parts = line.split()
        if len(parts) == 2 and parts[1].isdecimal():
            found[parts[0]] = int(parts[1])
    return found


def rocm_device(
    index: int, properties: Mapping[str, int], vram_bytes: int, model: str, driver: str, threads: int
) -> nodes_pb2.Device | None:
    """Return a ROCm device, made from the KFD properties of a node; None if the node isn't a GPU.

    The device's speed is compute units x 64 lanes x 2 x clock (fp32). A device supports fp8 if it is gfx94x or gfx95x
    (CDNA3 and later), or gfx12 (RDNA4) or later.
    """
    units = properties.get("simd_count", 0) // max(1, properties.get("simd_per_cu", 0))
    if not units:
        return None
    target = properties.get("gfx_target_version", 0)
    return nodes_pb2.Device(
        name=f"rocm{index}",
        backend="rocm",
        model=model,
        vram_bytes=vram_bytes,
        fp8=90400 <= target < 100000 or target >= 120000,
        driver=driver,
        flops_per_second=units * 64 * 2 * properties.get("max_engine_clk_fcompute", 0) * 1e6,
        threads=threads,
    )


def cpu_name(cpuinfo: str) -> str:
    """Return the processor's name from the text of /proc/cpuinfo."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found.group(1).strip() if found else ""


def visible(setting: str | None, count: int) -> list[int]:
    """Return the indices of the CUDA devices that the variable CUDA_VISIBLE_DEVICES allows.

    All devices are allowed if the variable isn't set, or if its list contains anything but numbers.

    Args:
        setting: The variable's value; None if the variable isn't set.
        count: The number of devices of the machine.
    """
    if setting is None:
        return list(range(count))
    parts = [part.strip() for part in setting.split(",") if part.strip()]
    if not all(re.fullmatch(r"-?\d+", part) for part in parts):
        return list(range(count))
    return sorted({int(part) for part in parts if 0 <= int(part) < count})


def probe(threads: int, lend_bytes: int = 0) -> list[ProbedDevice]:
    """Return the devices of this machine: its GPUs, or its CPU if it has none.

    Args:
        threads: The number of CPU threads to share among renderers.
        lend_bytes: The main memory that a CPU device may use, in bytes; 0 means half of the main memory.
    """
    found = _cuda(threads) or _rocm(threads) or _mps(threads)
    return found or [ProbedDevice(cpu_device(threads, lend_bytes), 0)]


def cpu_device(threads: int, lend_bytes: int = 0) -> nodes_pb2.Device:
    """Return this machine's CPU as a device."""
    return nodes_pb2.Device(
        name="cpu",
        backend="cpu",
        model=cpu_name(_read(Path("/proc/cpuinfo"))) or platform.processor() or platform.machine(),
        vram_bytes=lend_bytes or psutil.virtual_memory().total // 2,
        flops_per_second=measure_thread_flops() * threads,
        threads=threads,
    )


def boot_id() -> str:
    """Return an id that changes when the machine reboots."""
    return _read(Path("/proc/sys/kernel/random/boot_id")).strip() or f"boot-{int(psutil.boot_time())}"


def _cuda(threads: int) -> list[ProbedDevice]:
    import pynvml

    try:
        pynvml.nvmlInit()
    except Exception:  # noqa: BLE001 - as in _ask
        return []
    try:
        driver = _ask(pynvml.nvmlSystemGetDriverVersion)
        indices = visible(
            os.environ.get("CUDA_VISIBLE_DEVICES"), int(number(_ask(pynvml.nvmlDeviceGetCount)))
        )
        share = max(1, threads // max(1, len(indices)))
        found = []
        for index in indices:
            handle = _ask(pynvml.nvmlDeviceGetHandleByIndex, index)
            if handle is None:
                continue
            memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
            readings = {
                "name": _ask(pynvml.nvmlDeviceGetName, handle),
                "memory": getattr(memory, "total", None),
                "capability": _ask(pynvml.nvmlDeviceGetCudaComputeCapability, handle),
                "driver": driver,
                "cores": _ask(pynvml.nvmlDeviceGetNumGpuCores, handle),
                "clock": _ask(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM),
            }
            found.append(ProbedDevice(cuda_device(index, readings, share), index))
        return found
    finally:
        _ask(pynvml.nvmlShutdown)


def _ask(question: Callable[..., Any], *arguments: Any) -> Any:
    """Return a driver's answer, or None if the question fails: a driver's error must not end the agent."""
    try:
        return question(*arguments)
    except Exception:  # noqa: BLE001 - NVML's own errors, and what its binding makes of answers it can't read
        return None


def _rocm(
    threads: int, kfd: Path = Path("/sys/class/kfd/kfd/topology/nodes"), drm: Path = Path("/sys/class/drm")
) -> list[ProbedDevice]:
    driver = _read(Path("/sys/module/amdgpu/version")).strip()
    found: list[ProbedDevice] = []
    for node in _numbered(kfd):
        properties = kfd_properties(_read(node / "properties"))
        card = drm / f"renderD{properties.get('drm_render_minor', 0)}" / "device"
        vram = int(number(_read(card / "mem_info_vram_total").strip()))
        model = _read(card / "product_name").strip() or _read(node / "name").strip()
        device = rocm_device(len(found), properties, vram, model, driver, threads)
        if device:
            found.append(ProbedDevice(device, len(found)))
    for one in found:
        one.advertised.threads = max(1, threads // len(found))
    return found


def _numbered(folder: Path) -> Iterable[Path]:
    try:
        return sorted(
            (entry for entry in folder.iterdir() if entry.name.isdecimal()), key=lambda e: int(e.name)
        )
    except OSError:
        return []


def _mps(threads: int) -> list[ProbedDevice]:
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return []
    device = nodes_pb2.Device(
        name="mps",
        backend="mps",
        model="Apple silicon",
        # GPU and CPU share the memory; macOS lends a GPU about three quarters.
        vram_bytes=psutil.virtual_memory().total * 3 // 4,
        flops_per_second=_APPLE_FLOPS,
        threads=threads,
    )
    return [ProbedDevice(device, 0)]


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
