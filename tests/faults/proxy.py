"""A forwarding gRPC proxy that loses replies, fails, delays, holds and cuts, on command.

It stands in front of a real server, so "committed, but the reply was lost" is what it says: the
server has committed. Usable in a test::

    with FaultProxy("127.0.0.1:9010") as proxy:
        proxy.add("Commit", lose_reply("DEADLINE_EXCEEDED"))

and as a process: ``python -m tests.faults.proxy 127.0.0.1:9010 --lose Commit:DEADLINE_EXCEEDED:2``.
"""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import grpc

from tests.faults import peek
from tests.faults.relay import Relay

_STREAMING = {"ExecuteStreamingSql", "StreamingRead", "BatchWrite"}
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to an RPC.

    Attributes:
        name: How the log calls it.
        before: Seconds to wait before it is forwarded.
        held: Keep the request back until the rule is released.
        forward: Whether the server gets to see it.
        code: The status to answer with; None for the server's own answer.
        answer: Whether the client gets any answer at all.
        cut: Reset the client's connections instead of an answer.
    """

    name: str
    before: float = 0.0
    held: bool = False
    forward: bool = True
    code: grpc.StatusCode | None = None
    answer: bool = True
    cut: bool = False


_PASS = Action("pass")


def lose_reply(code: str) -> Action:
    """Let the server do it, then answer with this status instead of the server's OK."""
    return Action(f"lose_reply({code})", code=grpc.StatusCode[code])


def fail(code: str) -> Action:
    """Answer with this status; the server never sees the request."""
    return Action(f"fail({code})", forward=False, code=grpc.StatusCode[code])


def delay(seconds: float) -> Action:
    """Forward it late."""
    return Action(f"delay({seconds})", before=seconds)


def hold() -> Action:
    """Keep the request back until :meth:`Rule.release`; then it is forwarded, wanted or not."""
    return Action("hold", held=True)


def black_hole(*, forward: bool = False) -> Action:
    """Never answer; with ``forward`` the server does it all the same."""
    return Action("black_hole", forward=forward, answer=False)


def cut(*, forward: bool = True) -> Action:
    """Reset the connection, after the server has done it or, without ``forward``, before."""
    return Action("cut", forward=forward, cut=True)


@dataclass(slots=True, eq=False)
class Rpc:
    """One RPC in the log; ``upstream`` and ``answered`` are status names, empty while unknown."""

    method: str
    peek: peek.Peek
    transaction: str
    action: str
    started: float
    upstream: str = ""
    answered: str = ""


@dataclass(slots=True, eq=False)
class Rule:
    """An action on the nth and following matches of a method, ``count`` times (None: for ever)."""

    method: str
    action: Action
    nth: int = 1
    count: int | None = 1
    when: Callable[[peek.Peek], bool] = lambda _: True
    seen: int = 0
    hits: int = 0
    _reached: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _forwarded: threading.Event = field(default_factory=threading.Event)

    def takes(self, method: str, request: peek.Peek) -> bool:
        """Count a match, and tell whether this one is hit."""
        if method != self.method or not self.when(request):
            return False
        self.seen += 1
        if self.seen < self.nth or (self.count is not None and self.hits >= self.count):
            return False
        self.hits += 1
        self._reached.set()
        return True

    def wait(self, timeout: float = 30) -> None:
        """Wait until the rule was hit.

        Raises:
            TimeoutError: It was not.
        """
        if not self._reached.wait(timeout):
            raise TimeoutError(self.method)

    def release(self, *, wait: bool = True) -> None:
        """Let held requests go; by default wait until the server has answered one."""
        self._released.set()
        if wait and not self._forwarded.wait(_PATIENCE):
            raise TimeoutError(self.method)

    def held(self) -> None:
        """Block until released."""
        self._released.wait(_PATIENCE)

    def forwarded(self) -> None:
        """Note that the server has answered."""
        self._forwarded.set()


class FaultProxy(grpc.GenericRpcHandler):
    """The proxy: a relay that can be cut, a generic server, a channel to the real one."""

    def __init__(self, upstream: str, *, port: int = 0) -> None:
        """Prepare to forward to ``upstream`` (host:port); ``port`` 0 takes a free one."""
        self._channel = grpc.insecure_channel(upstream, options=_OPTIONS)
        self._pool = ThreadPoolExecutor(64, thread_name_prefix="fault-proxy")
        self._server = grpc.server(self._pool, [self], options=_OPTIONS)
        self._relay = Relay(("127.0.0.1", self._server.add_insecure_port("127.0.0.1:0")), port)
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._log: list[Rpc] = []
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        self._server.start()
        self._relay.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        for rule in self._rules:
            rule.release(wait=False)
        self._relay.__exit__()
        self._server.stop(None).wait(5)
        self._channel.close()
        self._pool.shutdown(wait=True)

    @property
    def address(self) -> str:
        """Where clients connect: host:port."""
        return f"127.0.0.1:{self._relay.port}"

    def add(
        self,
        method: str,
        action: Action,
        *,
        nth: int = 1,
        count: int | None = 1,
        when: Callable[[peek.Peek], bool] = lambda _: True,
    ) -> Rule:
        """Apply an action to the nth RPC of a method from now on, and to ``count`` of them."""
        rule = Rule(method, action, nth, count, when)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forget rules and log."""
        with self._lock:
            rules, self._rules, self._log = self._rules, [], []
        for rule in rules:
            rule.release(wait=False)

    def rpcs(self, method: str | None = None) -> list[Rpc]:
        """Return the log in order of arrival, of one method if one is named."""
        with self._lock:
            return [one for one in self._log if method in {None, one.method}]

    def cut(self) -> None:
        """Reset every connection now."""
        self._relay.cut()

    def refuse(self, *, refusing: bool = True) -> None:
        """Be unreachable from now on (or, with False, be back)."""
        self._relay.refuse(refusing=refusing)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Take every method, as bytes."""
        path = handler_call_details.method
        method = path.rpartition("/")[2]
        metadata = [
            (key, value)
            for key, value in handler_call_details.invocation_metadata
            if not key.startswith(("grpc-", ":")) and key not in {"user-agent", "te"}
        ]
        if method in _STREAMING:

            def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
                yield from self._handle(path, method, metadata, request, context)

            return grpc.unary_stream_rpc_method_handler(stream)

        def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
            return self._handle(path, method, metadata, request, context)[0]

        return grpc.unary_unary_rpc_method_handler(unary)

    def _handle(
        self,
        path: str,
        method: str,
        metadata: list[tuple[str, Any]],
        request: bytes,
        context: grpc.ServicerContext,
    ) -> list[bytes]:
        peeked = peek.request(method, request)
        rule, rpc = self._admit(method, peeked)
        action = rule.action if rule else _PASS
        time.sleep(action.before)
        if rule and action.held:
            rule.held()
        messages: list[bytes] = []
        error: grpc.RpcError | None = None
        if action.forward and not (action.held and self._closed.is_set()):
            messages, error = self._forward(path, method, metadata, request)
            rpc.upstream = error.code().name if error else "OK"
            rpc.transaction = rpc.transaction or next(
                (found for one in messages if (found := peek.begun(method, one))), ""
            )
            if rule:
                rule.forwarded()
        return self._answer(action, rpc, messages, error, context)

    def _admit(self, method: str, peeked: peek.Peek) -> tuple[Rule | None, Rpc]:
        with self._lock:
            hits = [rule for rule in self._rules if rule.takes(method, peeked)]
            rule = hits[0] if hits else None
            name = rule.action.name if rule else _PASS.name
            rpc = Rpc(method, peeked, peeked.transaction, name, time.monotonic())
            self._log.append(rpc)
        return rule, rpc

    def _forward(
        self, path: str, method: str, metadata: list[tuple[str, Any]], request: bytes
    ) -> tuple[list[bytes], grpc.RpcError | None]:
        # Not the client's deadline: what was sent happens, whether or not it is still waited for.
        try:
            if method in _STREAMING:
                call = self._channel.unary_stream(path)
                return list(call(request, metadata=metadata, timeout=_PATIENCE)), None
            return [self._channel.unary_unary(path)(request, _PATIENCE, metadata)], None
        except grpc.RpcError as error:
            return [], error

    def _answer(
        self,
        action: Action,
        rpc: Rpc,
        messages: list[bytes],
        error: grpc.RpcError | None,
        context: grpc.ServicerContext,
    ) -> list[bytes]:
        if not action.answer:
            rpc.answered = "(none)"
            gone = threading.Event()
            if context.add_callback(gone.set):
                while not gone.wait(0.05) and not self._closed.is_set():
                    pass
            _abort(context, grpc.StatusCode.CANCELLED)
        if action.cut:
            rpc.answered = "(cut)"
            self._relay.cut()
            _abort(context, grpc.StatusCode.CANCELLED)
        if action.code is not None and error is None:
            rpc.answered = action.code.name
            _abort(context, action.code)
        if error is not None:
            rpc.answered = error.code().name
            context.set_trailing_metadata(tuple(error.trailing_metadata() or ()))
            context.abort(error.code(), error.details())
        rpc.answered = "OK"
        return messages


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode) -> NoReturn:
    context.abort(code, "injected by the fault proxy")
    raise AssertionError


def main() -> None:
    """Run as a process until it is interrupted; prints the address, then one line for each hit."""
    import argparse

    parser = argparse.ArgumentParser(prog="proxy", description=__doc__)
    parser.add_argument("upstream", help="host:port of the real server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--lose", action="append", default=[], metavar="METHOD:CODE[:NTH]", help="lose one reply"
    )
    arguments = parser.parse_args()
    with FaultProxy(arguments.upstream, port=arguments.port) as proxy:
        for text in arguments.lose:
            method, code, *nth = text.split(":")
            proxy.add(method, lose_reply(code), nth=int(nth[0]) if nth else 1)
        print(proxy.address, flush=True)  # noqa: T201 - its output
        threading.Event().wait()


if __name__ == "__main__":
    main()
