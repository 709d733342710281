from __future__ import annotations

import hashlib
import socket

import pytest

from tests.unit.vantun.demo.direct_proxy import direct_proxy, route_to
from vantun.demo.load import Download, Requests, Upload
from vantun.demo.origin import Origin, OriginProcess, random_bytes
from vantun.errors import VantunError
from vantun.socks5_client import connect_through

DATA = random_bytes(700_000, 5)
DIGEST = hashlib.sha256(DATA).hexdigest()


def test_random_bytes_are_those_of_the_seed() -> None:
    assert random_bytes(100, 1) == random_bytes(100, 1) != random_bytes(100, 2)


def test_a_download_an_upload_and_requests() -> None:
    with route_to(Origin(DATA)) as route:
        requests, download, upload = (
            Requests(route, 3),
            Download("download", route, len(DATA), DIGEST),
            Upload(route, DATA),
        )
        requests.start()
        requests.warm.wait()
        for transfer in (download, upload):
            transfer.start()
        for transfer in (download, upload):
            transfer.join()
            assert transfer.error == ""
            assert transfer.intact
            assert transfer.done == len(DATA)
            assert transfer.goodput
            assert transfer.times == sorted(transfer.times)
        requests.stop()
        requests.join()
        assert requests.error == ""
        assert len(requests.times) == len(requests.latencies)


class ShortOrigin(Origin):
    """Answers fewer bytes than it promises to GET, as a tunnel that truncates would."""

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.recv(1000)
        request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(999))


def test_a_truncated_transfer_is_an_error() -> None:
    with route_to(ShortOrigin(DATA)) as route:
        download = Download("download", route, 1000, DIGEST)
        download.start()
        download.join()
    assert download.error == "the connection ended in the middle of the body"
    assert download.goodput is None
    assert not download.intact


def test_a_changed_byte_is_no_error_and_not_intact() -> None:
    tampered = bytearray(DATA)
    tampered[400_000] ^= 1
    with route_to(Origin(bytes(tampered))) as route:
        download = Download("download", route, len(DATA), DIGEST)
        download.start()
        download.join()
    assert download.error == ""
    assert not download.intact


def test_a_refusal_of_the_proxy_says_what_and_why() -> None:
    with socket.socket() as closed, direct_proxy() as proxy:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(VantunError, match=f"refused 127.0.0.1:{port}: connection refused"):
            connect_through(proxy, ("127.0.0.1", port))


def test_no_proxy_is_an_error_of_the_program() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with route_to(Origin(DATA)) as route:
            route.proxy = ("127.0.0.1", closed.getsockname()[1])
            requests = Requests(route, 1)
            requests.start()
            requests.join()
    assert requests.warm.is_set()
    assert "refused" in requests.error


@pytest.mark.slow
def test_the_origin_as_a_process() -> None:
    with OriginProcess(len(DATA), 5) as origin, direct_proxy() as proxy:
        assert origin.digest == DIGEST
        with connect_through(proxy, ("127.0.0.1", origin.port)) as sock:
            sock.sendall(b"GET /bulk HTTP/1.1\r\nConnection: close\r\n\r\n")
            answer = bytearray()
            while part := sock.recv(1 << 16):
                answer += part
    assert answer.endswith(DATA)
