from __future__ import annotations

import pynvml
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent import probe

RTX_4090 = {
    "name": "NVIDIA GeForce RTX 4090",
    "memory": 25757220864,
    "capability": (8, 9),
    "driver": "550.54.14",
    "cores": 16384,
    "clock": 2520,
}

MI300X = """cpu_cores_count 0
simd_count 1216
mem_banks_count 1
simd_per_cu 4
gfx_target_version 90402
drm_render_minor 128
max_engine_clk_fcompute 2100
name_with odd content here
"""


def test_an_rtx_4090_is_advertised_with_fp8_and_a_rate_near_its_data_sheet():
    device = probe.cuda_device(1, RTX_4090, threads=8)
    assert (device.name, device.backend, device.compute_capability, device.fp8) == (
        "cuda1",
        "cuda",
        "8.9",
        True,
    )
    assert device.vram_bytes == 25757220864 and device.driver == "550.54.14" and device.threads == 8
    assert device.flops_per_second == pytest.approx(165e12, rel=0.02)


@pytest.mark.parametrize(
    "capability, fp8", [((8, 6), False), ((8, 9), True), ((9, 0), True), ((12, 0), True)]
)
def test_fp8_begins_with_compute_capability_8_9(capability, fp8):
    assert probe.cuda_device(0, {**RTX_4090, "capability": capability}, 1).fp8 is fp8


odd = st.one_of(
    st.none(),
    st.just("[N/A]"),
    st.just(b"\xff\xfe"),
    st.text("N/A[] 1.-e", max_size=6),
    st.floats(),
    st.integers(-5, 10**12),
    st.tuples(),
    st.tuples(st.floats(), st.floats()),
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(RTX_4090, odd)))
def test_no_reading_of_a_driver_ends_the_probe(readings):
    device = probe.cuda_device(0, readings, threads=1)
    assert device.backend == "cuda" and device.flops_per_second >= 0
    assert "N/A" not in device.model


EXCUSES = [
    "[N/A]", "N/A", "[Not Supported]", "Not Supported", "[Unknown Error]", "[Insufficient Permissions]", "ERR!",
    "[GPU is lost]", "[GPU requires reset]", "[Not Found]", "[Requested functionality has been deprecated]",
]  # fmt: skip
"""What NVIDIA's tools and drivers say where they have no reading."""


@pytest.mark.parametrize("excuse", [*EXCUSES, *(excuse.encode() for excuse in EXCUSES)])
def test_a_drivers_excuse_is_no_reading(excuse):
    assert probe.text(excuse) == "" and probe.number(excuse) == 0
    device = probe.cuda_device(0, dict.fromkeys(RTX_4090, excuse), threads=1)
    assert (device.model, device.driver, device.compute_capability, device.vram_bytes, device.flops_per_second) == (
        "", "", "", 0, 0.0,
    )  # fmt: skip


def test_a_name_is_no_excuse():
    for name in ("NVIDIA GeForce RTX 4090", "Tesla T4 [sample]", "NVIDIA GB10"):
        assert probe.text(name) == name


class Driver:
    """NVML where a card is well and its neighbour answers nothing; what it answers or raises is `odd`."""

    def __init__(self, monkeypatch, odd):
        self._odd = odd
        answers = {
            "nvmlInit": lambda: None,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: self.say(),
            "nvmlDeviceGetCount": lambda: 3,
            "nvmlDeviceGetHandleByIndex": lambda index: self.say() if index == 2 else index,
            "nvmlDeviceGetName": lambda card: self.say() if card else b"NVIDIA GB10",
            "nvmlDeviceGetMemoryInfo": lambda card: self.say(),
            "nvmlDeviceGetCudaComputeCapability": lambda card: self.say() if card else (12, 1),
            "nvmlDeviceGetNumGpuCores": lambda card: self.say() if card else 6144,
            "nvmlDeviceGetMaxClockInfo": lambda card, kind: self.say() if card else 3003,
        }
        for name, answer in answers.items():
            monkeypatch.setattr(f"pynvml.{name}", answer)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def say(self):
        if isinstance(self._odd, Exception):
            raise self._odd
        return self._odd


@pytest.mark.parametrize(
    "odd",
    [
        pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED),
        pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST),
        pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        AttributeError("nvmlDeviceGetMemoryInfo_v3"),
        "[N/A]",
        b"[Unknown Error]",
        None,
        2**64 - 1,
    ],
    ids=repr,
)
def test_a_machine_whose_driver_answers_oddly_still_lends_its_cards(monkeypatch, odd):
    Driver(monkeypatch, odd)
    found = probe.probe(threads=2)
    well, sick = (device.advertised for device in found[:2])
    assert (well.name, well.model, well.compute_capability, well.fp8) == (
        "cuda0",
        "NVIDIA GB10",
        "12.1",
        True,
    )
    assert well.vram_bytes == 0 and well.flops_per_second > 1e13
    assert (sick.name, sick.vram_bytes, sick.compute_capability) == ("cuda1", 0, "")


def test_a_driver_that_cannot_be_asked_leaves_the_cpu(monkeypatch):
    def broken():
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    monkeypatch.setattr("pynvml.nvmlInit", broken)
    assert [device.advertised.backend for device in probe.probe(threads=1)] == ["cpu"]


@given(st.text())
def test_no_file_of_the_kernels_ends_the_probe(content):
    properties = probe.kfd_properties(content)
    assert all(isinstance(value, int) for value in properties.values())


def test_a_mi300x_is_read_from_sysfs():
    device = probe.rocm_device(0, probe.kfd_properties(MI300X), 206141652992, "MI300X", "6.7", threads=4)
    assert device is not None
    assert device.backend == "rocm" and device.fp8 and device.vram_bytes == 206141652992
    assert device.flops_per_second == pytest.approx(81.7e12, rel=0.01)


def test_a_cpu_in_the_kfd_topology_is_no_gpu():
    assert (
        probe.rocm_device(0, probe.kfd_properties("cpu_cores_count 16\nsimd_count 0\n"), 0, "", "", 1) is None
    )


def test_a_rocm_machine_is_found_through_its_folders(tmp_path):
    for number, content in enumerate(["cpu_cores_count 16\nsimd_count 0\n", MI300X, MI300X]):
        node = tmp_path / "nodes" / str(number)
        node.mkdir(parents=True)
        (node / "properties").write_text(content)
    card = tmp_path / "drm" / "renderD128" / "device"
    card.mkdir(parents=True)
    (card / "mem_info_vram_total").write_text("206141652992\n")
    found = probe._rocm(8, tmp_path / "nodes", tmp_path / "drm")
    assert [(d.advertised.name, d.index, d.advertised.threads) for d in found] == [
        ("rocm0", 0, 4),
        ("rocm1", 1, 4),
    ]
    assert found[0].advertised.vram_bytes == 206141652992


@pytest.mark.parametrize(
    "setting, indices",
    [
        (None, [0, 1, 2]),
        ("", []),
        ("1", [1]),
        ("2,0", [0, 2]),
        ("7", []),
        ("-1", []),
        ("GPU-8f3e", [0, 1, 2]),
    ],
)
def test_cuda_visible_devices_limits_what_is_offered(setting, indices):
    assert probe.visible(setting, 3) == indices


def test_a_machine_always_offers_at_least_one_device_and_the_cpu_lends_what_it_is_told():
    assert probe.probe(threads=1)
    device = probe.cpu_device(threads=2, lend_bytes=123)
    assert (device.name, device.backend, device.vram_bytes, device.threads) == ("cpu", "cpu", 123, 2)
    assert 1e8 < device.flops_per_second < 1e13


def test_the_boot_id_stays_while_the_machine_runs():
    assert probe.boot_id() and probe.boot_id() == probe.boot_id()
