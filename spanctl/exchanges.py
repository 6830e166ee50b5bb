"""Requests to servers, told to whoever listens: for ``--verbose`` and ``--debug``.

Told are the method, the target, how long it took and the status: never headers, bodies, or what
follows a ``?``, which may hold secrets, rows and parameter values.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from spanctl.clock import monotonic


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and what came of it.

    Attributes:
        system: Who was asked: ``spanner``, ``prefect``, ``secretmanager`` or ``identity``.
        method: The RPC, or the HTTP method and path.
        target: The host, and the resource where that is known.
        seconds: How long it took; None while it is on its way.
        status: gRPC's or HTTP's status, or the kind of error; empty while it is on its way.
    """

    system: str
    method: str
    target: str
    seconds: float | None = None
    status: str = ""


Listener = Callable[[Exchange], None]
_listeners: list[Listener] = []


class Sent:
    """A request on its way."""

    def __init__(self, system: str, method: str, target: str) -> None:
        """Tell that it is sent."""
        self._said = (system, method.partition("?")[0], target)
        self._since = monotonic()
        self._over = False
        self._tell(None, "")

    def ended(self, status: str) -> None:
        """Tell once how it ended."""
        if not self._over:
            self._over = True
            self._tell(monotonic() - self._since, status)

    def _tell(self, seconds: float | None, status: str) -> None:
        system, method, target = self._said
        told = Exchange(system=system, method=method, target=target, seconds=seconds, status=status)
        for listener in [*_listeners]:
            listener(told)


def listened() -> bool:
    """Whether anybody listens."""
    return bool(_listeners)


def listen(listener: Listener) -> Callable[[], None]:
    """Have a listener told of each request, twice: as it is sent, and as it has ended.

    It is called in the thread that sends.

    Returns:
        What ends that.
    """
    _listeners.append(listener)

    def stop() -> None:
        if listener in _listeners:
            _listeners.remove(listener)

    return stop


@contextlib.contextmanager
def sending(system: str, method: str, target: str) -> Iterator[Sent]:
    """Tell of a request that the block sends; an error of the block is its status."""
    sent = Sent(system, method, target)
    try:
        yield sent
    except BaseException as error:
        sent.ended(type(error).__name__)
        raise
    sent.ended("OK")
