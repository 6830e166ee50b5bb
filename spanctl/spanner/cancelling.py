"""A channel whose RPCs end when the work that they are sent for is to end."""

from collections.abc import Callable
from typing import Any, Self

import grpc

from spanctl import interrupts, shelter


class CancellableChannel(grpc.Channel):  # type: ignore[misc]  # grpc ships no annotations
    """In front of a channel: what a shelter's work sends can be cancelled by the shelter.

    Outside of shelters all goes as it always did: gRPC's own way to wait takes less time.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        """Stand in front of a channel."""
        self._channel = channel

    def unary_unary(self, *args: Any, **kwargs: Any) -> grpc.UnaryUnaryMultiCallable:  # noqa: ANN401 - gRPC's
        """Return a call with one reply."""
        return _Unary(self._channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> grpc.UnaryStreamMultiCallable:  # noqa: ANN401 - gRPC's
        """Return a call with a stream of replies."""
        return _Stream(self._channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> grpc.StreamUnaryMultiCallable:  # noqa: ANN401 - gRPC's
        """Return gRPC's own; Spanner has no such RPC."""
        return self._channel.stream_unary(*args, **kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> grpc.StreamStreamMultiCallable:  # noqa: ANN401 - gRPC's
        """Return gRPC's own; Spanner has no such RPC."""
        return self._channel.stream_stream(*args, **kwargs)

    def subscribe(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - gRPC's
        """Tell of the channel's connectivity."""
        self._channel.subscribe(*args, **kwargs)

    def unsubscribe(self, callback: Any) -> None:  # noqa: ANN401 - gRPC's
        """Tell no more of it."""
        self._channel.unsubscribe(callback)

    def close(self) -> None:
        """Close the channel; a signal that comes meanwhile would break gRPC off half-way."""
        with interrupts.shielded():
            self._channel.close()

    def __enter__(self) -> Self:
        """Return itself, as gRPC's channels do."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()


class _Unary(grpc.UnaryUnaryMultiCallable):  # type: ignore[misc]  # grpc ships no annotations
    def __init__(self, inner: grpc.UnaryUnaryMultiCallable) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - gRPC's
        if shelter.caller() is None:
            return self._inner(*args, **kwargs)
        return self.with_call(*args, **kwargs)[0]

    def with_call(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - gRPC's
        if (caller := shelter.caller()) is None:
            return self._inner.with_call(*args, **kwargs)
        future = self.future(*args, **kwargs)
        work, quick = caller
        work.flies(future, quick=quick)
        try:
            return future.result(), future
        except grpc.FutureCancelledError:
            raise _CancelledRpcError from None

    def future(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - gRPC's
        return self._inner.future(*args, **kwargs)


class _CancelledRpcError(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[misc]  # grpc ships no annotations
    """An RPC that was cancelled, as an error: gRPC's own future is none where it is asked twice."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.CANCELLED

    def details(self) -> str:
        return "nobody waits for it any more"

    def initial_metadata(self) -> tuple[()]:
        return ()

    def trailing_metadata(self) -> tuple[()]:
        return ()

    def result(self, timeout: float | None = None) -> Any:  # noqa: ANN401, ARG002 - gRPC's
        raise self

    def exception(self, timeout: float | None = None) -> BaseException:  # noqa: ARG002 - gRPC's
        return self


class _Stream(grpc.UnaryStreamMultiCallable):  # type: ignore[misc]  # grpc ships no annotations
    def __init__(self, inner: grpc.UnaryStreamMultiCallable) -> None:
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - gRPC's
        call = self._inner(*args, **kwargs)
        if (caller := shelter.caller()) is not None:
            work, quick = caller
            work.flies(call, quick=quick)
        return Asked(call)


class Asked:
    """A stream in front of gRPC's, that is not asked again once waiting for it was broken off.

    What is raised into that wait (by a signal's handler, or from another thread) has gRPC free what
    it polls for the call's parts; asked again, it would poll that all the same, and may crash.
    """

    def __init__(self, call: Any) -> None:  # noqa: ANN401 - gRPC's
        """Stand in front of a call."""
        self._call = call
        self._asking = False

    def __iter__(self) -> Self:
        """Return itself, as gRPC's calls do."""
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - a message
        """Return the next part.

        Raises:
            StopIteration: There is none.
            RpcError: The stream failed; CANCELLED where waiting for a part was broken off before.
        """
        return self._ask(self._call.__next__)

    def initial_metadata(self) -> Any:  # noqa: ANN401 - gRPC's
        """Return what the server sent first, for which gRPC waits in the same way."""
        return self._ask(self._call.initial_metadata)

    def _ask(self, what: Callable[[], Any]) -> Any:  # noqa: ANN401 - gRPC's
        if self._asking:
            raise _CancelledRpcError
        self._asking = True  # left so by whatever is none of the ends below
        try:
            answer = what()
        except (StopIteration, grpc.RpcError):
            self._asking = False
            raise
        self._asking = False
        return answer

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - gRPC's
        """Ask the call."""
        return getattr(self._call, name)
