"""Strangers who open RPCs and send no request, or one without end, hold up nobody and no memory."""

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import pytest

from spanctl.local.standins import secretservice
from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.files import Places
from spanctl.local.standins.gateway import Gateway
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.secrets import SecretManager
from spanctl.local.standins.secretstore import Secrets
from spanctl.local.standins.store import Store
from spanctl.local.standins.switches import Switches
from spanctl.local.standins.tokens import CLOUD_PLATFORM, Principal, Tokens

PATIENCE: Final = 60.0
THREADS: Final = 2
LIST: Final = f"/{secretservice.SERVICE}/ListSecrets"
COMMIT: Final = "/google.spanner.v1.Spanner/Commit"
STREAM: Final = "/google.spanner.v1.Spanner/ExecuteStreamingSql"
REFUSED: Final = grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Everything that the doors look tokens up in."""
    places = Places(tmp_path / "identity")
    places.create()
    opened = Store(places.database)
    yield opened
    opened.close()


class Naive(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no annotations
    """Refuses everybody, once gRPC has the request: as handlers are usually written."""

    def __init__(self, refuse: Callable[[bytes, Any], Any]) -> None:
        self._refuse = refuse

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Answer each RPC alike."""
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(self._refuse)


@contextlib.contextmanager
def threaded(handler: grpc.GenericRpcHandler) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(THREADS), handlers=(handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(PATIENCE)


@contextlib.contextmanager
def looping(make: Callable[[grpc.aio.Channel], grpc.GenericRpcHandler]) -> Iterator[str]:
    """Serve on an event loop in a thread of its own."""
    ready, told, ending = threading.Event(), list[Any](), list[Callable[[], None]]()

    async def serve() -> None:
        over = asyncio.Event()
        async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
            server = grpc.aio.server(handlers=(make(nowhere),))
            told.append(server.add_insecure_port("127.0.0.1:0"))
            await server.start()
            loop = asyncio.get_running_loop()
            ending.append(lambda: loop.call_soon_threadsafe(over.set) and None)
            ready.set()
            await over.wait()
            await server.stop(None)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        yield f"127.0.0.1:{told[0]}"
    finally:
        ending[0]()
        thread.join(PATIENCE)


@contextlib.contextmanager
def silent(address: str, method: str, how_many: int) -> Iterator[list[Any]]:
    """Open RPCs of a stranger's, whose request never comes."""
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(PATIENCE)
        yield from ()

    with grpc.insecure_channel(address) as channel:
        send = channel.stream_unary(method)
        calls = [send.future(nothing()) for _ in range(how_many)]
        try:
            yield calls
        finally:
            over.set()
            for call in calls:
                call.cancel()


def others(address: str, method: str, patience: float = PATIENCE) -> grpc.StatusCode:
    """Return what somebody else is answered meanwhile."""
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", timeout=patience)
    code: grpc.StatusCode = refused.value.code()
    return code


class Watched(Tokens):
    """Tells when a token was let in."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.admitted = threading.Event()

    def admit(self, authorization: str | None, service: str) -> Principal:
        """Look it up, and tell."""
        who = super().admit(authorization, service)
        self.admitted.set()
        return who


def secrets(store: Store, tokens: Tokens | None = None) -> grpc.GenericRpcHandler:
    kept = Secrets(store, "projects/1", Switches)
    manager = SecretManager(kept, Policy(store, "p1"), "p1", "1")
    return secretservice.handlers(manager, tokens or Tokens(store), Switches)


def test_secret_manager_s_threads_wait_for_no_stranger(store: Store) -> None:
    """More of them than there are threads: each is refused without having said a word."""
    with threaded(secrets(store)) as address, silent(address, LIST, 3 * THREADS) as calls:
        assert {call.exception(PATIENCE).code() for call in calls} == {REFUSED}
        assert others(address, LIST) is REFUSED


def test_threads_that_wait_for_requests_are_held() -> None:
    """Control: as many silent strangers as there are threads, and nobody is answered."""

    def refuse(_data: bytes, context: grpc.ServicerContext) -> NoReturn:
        context.abort(REFUSED, "")
        raise AssertionError

    with threaded(Naive(refuse)) as address:
        assert others(address, LIST) is REFUSED
        with silent(address, LIST, THREADS) as calls:
            assert others(address, LIST, 0.5) is grpc.StatusCode.DEADLINE_EXCEEDED
            assert not any(call.done() for call in calls)


@pytest.mark.parametrize("method", [COMMIT, STREAM])
def test_the_gateway_reads_no_stranger_s_request(store: Store, method: str) -> None:
    """It refuses before the first byte of a request: its size, which isn't bounded, is nothing."""

    def gateway(emulator: grpc.aio.Channel) -> Gateway:
        return Gateway(Tokens(store), Policy(store, "p1"), emulator)

    with looping(gateway) as address, silent(address, method, 3) as calls:
        assert {call.exception(PATIENCE).code() for call in calls} == {REFUSED}
        assert others(address, method) is REFUSED


def test_a_request_would_be_read_whole() -> None:
    """Control: a handler as usual doesn't know who asks before all of a request is in memory."""
    lengths = []

    async def refuse(data: bytes, context: Any) -> None:
        lengths.append(len(data))
        await context.abort(REFUSED, "")

    with looping(lambda _: Naive(refuse)) as address, silent(address, COMMIT, 1) as calls:
        assert others(address, COMMIT) is REFUSED
        assert lengths == [0]
        assert not calls[0].done()


@pytest.mark.parametrize("dies", [True, False])
def test_a_token_is_asked_for_when_the_request_comes(store: Store, *, dies: bool) -> None:
    """An RPC that was opened with a token while it lived is of no use later: the control's is."""
    email = Accounts(store, "p1").ensure("runner", "Runs")
    tokens, sent = Watched(store), threading.Event()
    header, _ = tokens.mint(email, frozenset({CLOUD_PLATFORM}), timedelta(hours=1))

    def later() -> Iterator[bytes]:
        sent.wait(PATIENCE)
        yield b""

    def gateway(emulator: grpc.aio.Channel) -> Gateway:
        return Gateway(tokens, Policy(store, "p1"), emulator)

    for opened, method, further in (
        (threaded(secrets(store, tokens)), LIST, grpc.StatusCode.INVALID_ARGUMENT),
        (looping(gateway), COMMIT, grpc.StatusCode.PERMISSION_DENIED),
    ):
        with opened as address, grpc.insecure_channel(address) as channel:
            tokens.admitted.clear()
            sent.clear()
            metadata = [("authorization", f"Bearer {header}")]
            call = channel.stream_unary(method).future(later(), metadata=metadata)
            assert tokens.admitted.wait(PATIENCE)
            if dies:
                Accounts(store, "p1").set_disabled(email, disabled=True)
            sent.set()
            code = call.exception(PATIENCE).code()
            assert code is (REFUSED if dies else further)
            Accounts(store, "p1").set_disabled(email, disabled=False)


def test_a_token_without_a_bottom_is_none(store: Store) -> None:
    """Nested deeper than any parser goes, it is refused as every other that is not ours."""
    deep = base64.urlsafe_b64encode(b"[" * 3000).decode().rstrip("=")
    with pytest.raises(RecursionError):
        json.loads(b"[" * 3000)
    with threaded(secrets(store)) as address, grpc.insecure_channel(address) as channel:
        metadata = [("authorization", f"Bearer {deep}.{deep[:8]}.{deep[:8]}")]
        with pytest.raises(grpc.RpcError) as refused:
            channel.unary_unary(LIST)(b"", metadata=metadata, timeout=PATIENCE)
    assert refused.value.code() is REFUSED
