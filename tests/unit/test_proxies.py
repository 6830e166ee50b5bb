"""Proxies of the environment: past them to this machine, through them to all others."""

import socket
import threading

import pytest

from spanctl.proxies import is_loopback, spare_loopback
from spanctl.spanner import channel

PROXY = "http://proxy.example:3128"
ALL = "localhost,127.0.0.1,::1"


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, ALL),
        ({"NO_PROXY": "a.example"}, f"a.example,{ALL}"),
        ({"no_proxy": "a.example, localhost"}, "a.example,localhost,127.0.0.1,::1"),
        ({"no_proxy": "*"}, "*"),
        ({"NO_PROXY": ""}, ALL),
    ],
)
def test_this_machine_is_spared(name: str, before: dict[str, str], after: str) -> None:
    """Whatever is exempt already stays so, in both spellings, and the proxy is kept for others."""
    environ = {name: PROXY, **before}
    spare_loopback(environ)
    assert (environ["no_proxy"], environ["NO_PROXY"]) == (after, after)
    assert environ[name] == PROXY
    again = dict(environ)
    spare_loopback(again)
    assert again == environ


def test_an_environment_without_proxies_is_left_alone() -> None:
    """Nothing is set where nothing is to be spared."""
    environ = {"PATH": "/bin", "HTTP_PROXY": ""}
    spare_loopback(environ)
    assert environ == {"PATH": "/bin", "HTTP_PROXY": ""}


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_grpc_is_told_apart_what_no_host_needs(name: str) -> None:
    """It doesn't know ``*``, which for all others holds only where it stands alone."""
    environ = {"https_proxy": PROXY, name: "*"}
    spare_loopback(environ)
    assert (environ["no_proxy"], environ["no_grpc_proxy"]) == ("*", f"*,{ALL}")


def test_secret_manager_on_this_machine_is_reached_past_the_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever the environment exempts."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.credentials import AnonymousCredentials

    from spanctl.credentials import store
    from spanctl.credentials.endpoints import Endpoints

    monkeypatch.setattr(store, "spare_loopback", lambda: None)
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        socket.create_server(("127.0.0.1", 0)) as here,
    ):
        for variable in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("grpc_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        host = f"127.0.0.1:{here.getsockname()[1]}"
        with (
            store.open_client(Endpoints(), AnonymousCredentials(), host) as client,
            pytest.raises(GoogleAPICallError),
        ):
            client.get_secret(name="projects/p/secrets/s", retry=None, timeout=0.5)
        for one in (here, proxy):
            one.settimeout(0.1)
        accepted, _ = here.accept()
        accepted.close()
        with pytest.raises(TimeoutError):
            proxy.accept()


def test_grpc_s_own_list_is_completed() -> None:
    """Where it is set, gRPC looks at no other."""
    environ = {"grpc_proxy": PROXY, "no_grpc_proxy": "a.example"}
    spare_loopback(environ)
    assert environ["no_grpc_proxy"] == f"a.example,{ALL}"


@pytest.mark.parametrize(
    ("endpoint", "here"),
    [
        ("localhost", True),
        ("localhost:9010", True),
        ("LOCALHOST.:1", True),
        ("127.0.0.1:9010", True),
        ("127.1.2.3", True),
        ("[::1]:9010", True),
        ("::1", True),
        ("spanner.googleapis.com:443", False),
        ("localhost.example:443", False),
        ("10.0.0.1:9010", False),
        ("", False),
    ],
)
def test_what_this_machine_is(endpoint: str, here: bool) -> None:
    """With a port and without, by name and by address."""
    assert is_loopback(endpoint) is here


def test_a_channel_to_another_host_uses_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC asks the proxy for the host, and goes past it to this machine."""
    asked: list[str] = []
    with (
        socket.create_server(("127.0.0.1", 0)) as proxy,
        socket.create_server(("127.0.0.1", 0)) as here,
    ):
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")

        def listen() -> None:
            connection, _ = proxy.accept()
            with connection:
                asked.append(connection.recv(4096).decode().splitlines()[0])

        listener = threading.Thread(target=listen)
        listener.start()
        near = channel.plain(f"127.0.0.1:{here.getsockname()[1]}")
        far = channel.plain("spanner.example:443")
        for one in (near, far):
            one.subscribe(lambda _: None, try_to_connect=True)
        accepted, _ = here.accept()
        accepted.close()
        listener.join(30)
        near.close()
        far.close()
    assert asked == ["CONNECT spanner.example:443 HTTP/1.1"]
