from __future__ import annotations

import os

from farm.config import DeclaredDevice, load_node_config
from farm.v1 import nodes_pb2
from nodeagent.devices import declared, lent
from nodeagent.liveness import born, lives
from nodeagent.probe import ProbedDevice


def test_declared_devices_are_offered_as_declared_and_share_the_threads():
    large = DeclaredDevice.model_validate({"name": "a", "vram": "24GiB", "fp8": True})
    a, b = declared([large, DeclaredDevice(name="b", threads=3)], [], threads=8, thread_flops=1e9)
    assert (a.index, b.index) == (0, 1)
    assert a.advertised.declared and a.advertised.fp8 and a.advertised.vram_bytes == 24 * 2**30
    assert (a.advertised.threads, b.advertised.threads) == (4, 3)
    assert (a.advertised.flops_per_second, b.advertised.flops_per_second) == (4e9, 3e9)


def test_a_declared_gpu_keeps_what_is_known_of_the_real_one_behind_it():
    real = nodes_pb2.Device(
        name="cuda0", backend="cuda", model="RTX 4090", driver="550", flops_per_second=1e14
    )
    device = declared([DeclaredDevice(name="trial", backend="cuda")], [ProbedDevice(real, 0)], 4, 1e9)[
        0
    ].advertised
    assert (device.name, device.model, device.driver, device.flops_per_second) == (
        "trial",
        "RTX 4090",
        "550",
        1e14,
    )
    assert device.declared


def test_a_config_with_devices_replaces_what_would_be_found(tmp_path):
    config = tmp_path / "node.toml"
    config.write_text('threads = 2\n[[device]]\nname = "small"\nvram = "1GiB"\n')
    (device,) = lent(load_node_config(config, {}, {"home": str(tmp_path)}))
    assert (device.advertised.name, device.advertised.vram_bytes, device.advertised.threads) == (
        "small",
        2**30,
        2,
    )


def test_a_process_is_told_from_others_with_its_pid():
    mine = born(os.getpid())
    assert mine is not None and lives(os.getpid(), mine)
    assert not lives(os.getpid(), "another birth")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert born(child) is None, "a zombie does not live"
    os.waitpid(child, 0)
    assert born(child) is None
