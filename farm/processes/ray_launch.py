"""Runs one Ray node: either the head or a worker node.

The head has Ray's control store (GCS) and a raylet, Ray's process for one machine. A worker node has only a raylet.

This program builds Ray's `Node` itself, because `ray start` doesn't fit the farm. `ray start` replaces 127.0.0.1 by an
address that other machines can reach. It also starts a client server, a dashboard, and two Python agents beside each
raylet. Without these processes a farm of three raylets is up in 2 s instead of 8 s, with 560 MB less memory.

Only this module uses private parts of Ray.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from ray.job_config import JobConfig

from farm import log_file
from farm.durable import write_whole
from farm.logs import adopt, configure_as_told

log = structlog.get_logger()

LOGS_SECONDS = 60.0
"""Between two looks at how long Ray's own logs have become."""


def wait_for_head(address: str, timeout: float) -> None:
    """Wait until Ray's head at `address` (host:port) is up. Raises TimeoutError.

    The head is up when its own raylet has registered.
    """
    # Ray has a function for this, but it looks only every one or two seconds.
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled, and not in its stubs

    host, port = address.rsplit(":", 1)
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=1.0).close()
            if any(
                node.is_head_node for node in GcsClient(address=address).get_all_node_info(timeout=2).values()
            ):
                return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError(f"Ray's head node at {address} did not start within {timeout:g} s")
        time.sleep(0.02)


def driver_job_config() -> JobConfig:
    """Return a Ray job config that keeps the folders of the driver out of the import path of the workers.

    The driver is the process that calls `ray.init`. With Ray's default config, workers on all machines would first look
    for modules in the driver's current folder.
    """
    from ray.job_config import JobConfig

    class PathOfTheirOwn(JobConfig):
        # `ray.init` appends the driver's folders to this list just before it sends the config.
        _py_driver_sys_path = property(lambda self: [], lambda self, folders: None)

    return PathOfTheirOwn()


def _without_agents(command: list[str]) -> list[str]:
    """Return a raylet's command line with both its agents replaced.

    A raylet insists on its agents, waits for their ports and dies with them. `cat` takes their place: it ends when the
    raylet's end of its pipe closes. Nobody listens on port 1; port 0 would make the raylet wait.
    """
    # The shell swallows the arguments that a raylet adds.
    stand_in = '/bin/sh -c "exec cat"'
    replaced = {
        "--dashboard_agent_command": stand_in,
        "--runtime_env_agent_command": stand_in,
        "--metrics-agent-port": "1",
        "--metrics_export_port": "1",
        "--runtime_env_agent_port": "1",
    }
    kept = [argument for argument in command if argument.split("=", 1)[0] not in replaced]
    return [
        *kept,
        "--dashboard_agent_listen_port=1",
        *(f"{name}={value}" for name, value in replaced.items()),
    ]


def _spare_what_the_farm_does_not_use() -> None:
    from ray._private import ray_constants, services
    from ray._private.node import Node

    start = services.start_ray_process

    def start_without_agents(command: list[str], process_type: str, **options: Any) -> Any:
        if process_type == ray_constants.PROCESS_TYPE_RAYLET:
            command = _without_agents(command)
        return start(command, process_type, **options)

    services.start_ray_process = start_without_agents
    Node.start_api_server = lambda self, **options: None


def cut_logs(folder: Path) -> None:
    """Empty each of Ray's own log files in `folder` that has grown too long."""
    # Ray's log rotation is not used: it puts a pipe and six threads between a process and its file (docs/ray.md, 22).
    for path in folder.glob("*.*"):
        log_file.cut(path)


def main() -> None:
    """Run a Ray node until it dies. Once the node is up, write its pid and node id to a file (--state)."""
    parser = argparse.ArgumentParser(prog="python -m farm.processes.ray_launch", description=main.__doc__)
    parser.add_argument("kind", choices=["head", "node"])
    parser.add_argument("--address", required=True, help="address of Ray's control store, as host:port")
    parser.add_argument("--node-ip", required=True)
    parser.add_argument("--temp", required=True, type=Path, help="folder for Ray's sockets and logs")
    parser.add_argument(
        "--state", required=True, type=Path, help="file that this program writes when the Ray node is up"
    )
    parser.add_argument("--prestart", type=int, default=0, help="number of worker processes to keep ready")
    parser.add_argument("--object-store", type=int, required=True, help="bytes")
    arguments = parser.parse_args()

    configure_as_told("ray-head" if arguments.kind == "head" else "raylet")

    from ray._private.node import Node
    from ray._private.parameter import RayParams

    adopt("ray")
    _spare_what_the_farm_does_not_use()
    head = arguments.kind == "head"
    if not head:
        wait_for_head(arguments.address, timeout=60.0)
    node = Node(
        RayParams(
            gcs_address=None if head else arguments.address,
            gcs_server_port=int(arguments.address.rsplit(":", 1)[1]) if head else None,
            node_ip_address=arguments.node_ip,
            node_name=arguments.node_ip,
            # Renderers ask for no CPU: this is how many workers the raylet keeps ready.
            num_cpus=arguments.prestart,
            num_gpus=0,
            resources={},
            object_store_memory=arguments.object_store,
            temp_dir=str(arguments.temp),
            include_log_monitor=False,
            include_dashboard=False,
            no_monitor=True,
            # Ray reserves ports for parts that aren't started here, and a head on one of those ports would not start.
            dashboard_port=0,
            dashboard_agent_listen_port=0,
            min_worker_port=0,
            max_worker_port=0,
        ),
        head=head,
        shutdown_at_exit=True,
        spawn_reaper=True,
    )
    write_whole(arguments.state, json.dumps({"pid": os.getpid(), "node_id": node.node_id}))
    looked = time.monotonic()
    while not (dead := node.dead_processes()):
        time.sleep(0.2)
        if time.monotonic() - looked >= LOGS_SECONDS:
            looked = time.monotonic()
            cut_logs(Path(node.get_logs_dir_path()))
    log.error("parts of Ray have ended; this node ends too", parts=[kind for kind, _ in dead])
    node.kill_all_processes(check_alive=False, allow_graceful=False)
    sys.exit(1)


if __name__ == "__main__":
    main()
