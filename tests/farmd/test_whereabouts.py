"""Certificate and client.json stay true while a daemon runs and its machine's addresses change."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from cryptography import x509

from farm.wire import addresses
from farm.wire.addresses import Found
from farm.wire.security import Authority
from farmd.whereabouts import Whereabouts


@pytest.fixture
def found(monkeypatch) -> list[Found]:
    """What this machine's addresses are from now on: the last of the list."""
    found = [Found("10.0.0.7", ("10.0.0.7",))]
    monkeypatch.setattr(addresses, "look", lambda: found[-1])
    monkeypatch.setattr("farmd.whereabouts._LOOK_SECONDS", 0.02)
    monkeypatch.setattr("socket.gethostname", lambda: "Render-Head")
    return found


def _names(port: int) -> set[str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain) as secured,
    ):
        certificate = secured.getpeercert(True)
    assert certificate is not None
    shown = x509.load_der_x509_certificate(certificate)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(one.value) for one in names}


def test_a_machine_that_moves_to_another_network_is_called_there_and_shows_a_certificate_for_it(
    tmp_path, found
):
    authority = Authority.open(tmp_path)
    where = Whereabouts(authority, "0.0.0.0:7433", ())
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", where.credentials())
    server.start()
    where.write(7433, "")
    said = json.loads((tmp_path / "client.json").read_text())
    assert (said["server"], said["here"]["server"]) == ("10.0.0.7:7433", "127.0.0.1:7433")
    assert {"farmd", "render-head", "10.0.0.7", "127.0.0.1", "localhost"} <= _names(port)

    async def moved() -> None:
        keeping = asyncio.create_task(where.keep(7433, lambda: "192.168.1.7"))
        found.append(Found("192.168.1.7", ("192.168.1.7",)))
        async with asyncio.timeout(20):
            while json.loads((tmp_path / "client.json").read_text())["server"] != "192.168.1.7:7433":
                await asyncio.sleep(0.01)
        keeping.cancel()

    asyncio.run(moved())
    names = _names(port)
    server.stop(None).wait()
    assert "192.168.1.7" in names and "10.0.0.7" not in names


def test_what_can_not_be_written_now_is_written_later_and_ends_nothing(tmp_path, found, monkeypatch):
    where = Whereabouts(Authority.open(tmp_path), "0.0.0.0:7433", ())
    full = asyncio.Event()

    def no_room(*_: object) -> None:
        full.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def filled_and_freed() -> None:
        with monkeypatch.context() as disk:
            disk.setattr(Authority, "write_profile", no_room)
            keeping = asyncio.create_task(where.keep(7433, lambda: ""))
            await asyncio.wait_for(full.wait(), 20)
        async with asyncio.timeout(20):
            while not (tmp_path / "client.json").is_file():
                await asyncio.sleep(0.01)
        assert not keeping.done()
        keeping.cancel()

    asyncio.run(filled_and_freed())


def test_a_farm_for_this_machine_alone_has_one_address_and_no_name_of_the_machine(tmp_path, found):
    where = Whereabouts(Authority.open(tmp_path), "127.0.0.1:7433", ())
    where.write(7433, "")
    said = json.loads((tmp_path / "client.json").read_text())
    assert said["server"] == "127.0.0.1:7433" and "here" not in said
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", where.credentials())
    server.start()
    names = _names(port)
    server.stop(None).wait()
    assert names == {"farmd", "127.0.0.1", "localhost", "::1"}
