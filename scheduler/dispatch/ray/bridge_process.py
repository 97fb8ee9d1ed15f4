"""Starts and stops the bridge: the process that connects the daemon with Ray.

After a restart of the daemon, this module finds the bridge that is still running. The module doesn't import Ray.
"""

from __future__ import annotations

import os
from pathlib import Path

from farm.logs import variables_of
from farm.processes.children import python_command
from farm.processes.detached import DetachedProcess
from farm.processes.ray_process import ray_variables, without_ray


class BridgeProcess(DetachedProcess):
    """The process of a farm's bridge.

    The bridge connects the daemon with Ray. It waits up to a minute for Ray's head, so the bridge may be started before
    Ray's head. Once the bridge is connected to Ray, it answers on its socket.

    Args:
        home: the folder of the farm's state.
        socket: the bridge's unix socket; the path may have at most 106 bytes.
        ray_address: the address (host:port) of Ray's head. It may be changed between two starts.
        node_ip: this machine's address in the Ray cluster. It may be changed between two starts.
        token_file: the file with the token of the Ray cluster.
        renderers: names of renderer classes, as MODULE:CLASS. Every node has at least one of these classes.
    """

    def __init__(
        self, home: Path, socket: Path, ray_address: str, node_ip: str, token_file: Path, *renderers: str
    ) -> None:
        super().__init__("ray-bridge", home)
        self.socket = socket
        self.ray_address = ray_address
        self.node_ip = node_ip
        self._token_file = token_file
        self._renderers = renderers

    def command(self) -> list[str]:
        return python_command(
            "scheduler.dispatch.ray.bridge",
            f"--socket={self.socket.absolute()}",
            f"--ray-address={self.ray_address}",
            *(f"--renderer={one}" for one in self._renderers),
        )

    def variables(self) -> dict[str, str]:
        # A bridge is made anew in a moment, so it follows the settings of logs too.
        return ray_variables(self.node_ip, self._token_file) | variables_of(os.environ)

    def environment(self) -> dict[str, str]:
        return without_ray(super().environment()) | self.variables()

    def clean_up(self) -> None:
        self.socket.unlink(missing_ok=True)
