"""A channel whose RPCs end when the work that they are sent for is to end."""

from typing import Any, Self

import grpc

from spanctl import shelter


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
        """Close the channel."""
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
        return call
