"""The Unix socket through which renderers connect to their agent. Only the agent's user can connect."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import grpc
import structlog

from farm.v1 import renderers_pb2_grpc

log = structlog.get_logger()


class RendererSocket:
    """Serves RendererService on a socket at `path`."""

    def __init__(self, service: renderers_pb2_grpc.RendererServiceServicer, path: Path):
        self._service, self._path = service, path
        self._server: grpc.aio.Server | None = None

    async def listen(self) -> None:
        """Start serving.

        Raises PermissionError if the socket's folder belongs to another user; OSError or RuntimeError if the socket
        can't be opened.
        """
        folder = self._path.parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(
                f"{folder} belongs to another user; remove that folder, or choose another --home"
            )
        folder.chmod(0o700)
        self._server = grpc.aio.server()
        renderers_pb2_grpc.add_RendererServiceServicer_to_server(self._service, self._server)
        self._server.add_insecure_port(f"unix:{self._path}")
        await self._server.start()
        self._path.chmod(0o600)

    async def restore(self) -> None:
        """Serve on a new socket if somebody has removed the old one. Attached renderers then attach again."""
        if self._path.exists():
            return
        log.warning("the renderers' socket was removed; making it again", path=str(self._path))
        try:
            # The old one removes the file when it ends, so it ends first.
            await self.close()
            await self.listen()
        except (OSError, RuntimeError) as error:  # gRPC raises the latter where it can't bind
            log.error("can't make the renderers' socket; retrying", why=str(error))

    async def close(self) -> None:
        """Stop serving."""
        if self._server:
            await self._server.stop(0)
