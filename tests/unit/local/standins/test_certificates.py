"""What a running server shows after its certificate was renewed."""

import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from spanctl.local.standins.certificates import Certificates
from spanctl.local.standins.files import Places


def renew(places: Places) -> None:
    places.certificate.unlink()


def shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)


@pytest.mark.parametrize(("every", "renewed"), [(0.0, True), (3600.0, False)])
def test_a_grpc_server_shows_the_renewed_certificate(
    tmp_path: Path, every: float, renewed: bool
) -> None:
    """New handshakes see the new one once it was looked for, and until then the old one."""
    places = Places(tmp_path / "identity")
    certificates = Certificates(places, every)
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port("127.0.0.1:0", certificates.for_grpc())
    server.start()
    try:
        first = shown(port)
        assert first.strip() == places.certificate.read_text().strip()
        renew(places)
        assert (shown(port) != first) is renewed
        assert (shown(port) != first) is renewed
    finally:
        server.stop(0).wait()


@pytest.mark.parametrize(("every", "renewed"), [(0.0, True), (3600.0, False)])
def test_an_https_server_shows_the_renewed_certificate(
    tmp_path: Path, every: float, renewed: bool
) -> None:
    """The settings for the next connection hold the new one, also if gRPC has seen it before."""
    places = Places(tmp_path / "identity")
    certificates = Certificates(places, every)

    def served() -> bytes | None:
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ssl.create_default_context(cafile=str(places.bundle))
        asking = client.wrap_bio(ours, theirs, server_hostname="localhost")
        answering = certificates.context().wrap_bio(theirs, ours, server_side=True)
        for _ in range(4):
            for side in (asking, answering):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        return asking.getpeercert(binary_form=True)

    first = served()
    assert first
    renew(places)
    certificates.for_grpc()
    assert (served() != first) is renewed


def test_many_handshakes_at_once_renew_once(tmp_path: Path) -> None:
    """Threads that look at the same moment agree on one pair."""
    places = Places(tmp_path / "identity")
    certificates = Certificates(places, 0.0)
    renew(places)
    barrier = threading.Barrier(8)

    def look(_: int) -> str:
        barrier.wait(10)
        certificates.context()
        return places.certificate.read_text()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(look, range(8)))) == 1
