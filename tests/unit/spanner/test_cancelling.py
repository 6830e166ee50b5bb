"""Streams whose wait was broken off, and the guard over quiet transactions."""

import signal
import threading
from typing import Any

import grpc
import pytest

from spanctl.spanner.cancelling import Asked, CancellableChannel
from spanctl.spanner.idle import Guard


class Call:
    """gRPC's stream, ending each wait as it is told."""

    def __init__(self, *ends: Any) -> None:
        self._ends = list(ends)
        self.asked = 0

    def __next__(self) -> Any:
        self.asked += 1
        end = self._ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return end

    initial_metadata = __next__

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK


@pytest.mark.parametrize("broken", [KeyboardInterrupt(), TimeoutError(), SystemExit()])
@pytest.mark.parametrize("waits", [next, Asked.initial_metadata])
def test_a_stream_whose_wait_was_broken_off_is_not_asked_again(broken, waits) -> None:
    """What gRPC polls for it is freed by then; nor does it look like one that has ended."""
    call = Call("part", broken, "more")
    stream = Asked(call)
    assert next(stream) == "part"
    with pytest.raises(type(broken)):
        waits(stream)
    for again in (next, Asked.initial_metadata):
        with pytest.raises(grpc.RpcError) as told:
            again(stream)
        assert told.value.code() is grpc.StatusCode.CANCELLED
    assert call.asked == 2
    assert stream.code() is grpc.StatusCode.OK


def test_a_stream_that_ended_by_itself_tells_so_again() -> None:
    ends = (StopIteration(), StopIteration(), grpc.RpcError(), grpc.RpcError())
    stream = Asked(Call(*ends))
    for end in ends:
        with pytest.raises(type(end)):
            next(stream)


def test_signals_wait_while_a_channel_is_closed() -> None:
    """Broken off half-way, gRPC's own state would be left behind."""
    closed = []

    class Channel:
        def close(self) -> None:
            signal.raise_signal(signal.SIGINT)
            closed.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            CancellableChannel(Channel()).close()
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == [True]


def test_the_guard_goes_on_after_a_transaction_that_fails() -> None:
    """Whatever one of them fails with, the others are looked after, now and later."""
    expired = threading.Event()

    class Fails:
        def expire(self) -> bool:
            raise RuntimeError

    class Quiet:
        def expire(self) -> bool:
            expired.set()
            return True

    guard = Guard()
    fails = Fails()
    guard.watch(fails)
    guard.watch(Quiet())
    assert expired.wait(10)
    expired.clear()
    guard.watch(Quiet())
    assert expired.wait(10)
    guard.forget(fails)


def test_a_guard_whose_thread_could_not_start_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, expired = Guard(), threading.Event()

    class Quiet:
        def expire(self) -> bool:
            expired.set()
            return True

    def start(_self: threading.Thread) -> None:
        msg = "can't start new thread"
        raise RuntimeError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            guard.watch(Quiet())
    guard.watch(Quiet())
    assert expired.wait(10)
