"""Ctrl-C and SIGTERM: which transactions they find in flight, and when they have to wait a moment.

Python raises what a signal means between any two steps of the main thread, also in the middle of a
Rollback. :func:`shielded` holds it back while a transaction is rolled back or resolved, which is
bounded in time. Other threads are never interrupted: they find out at their next statement.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGALRM,  # a task's own timeout, as Prefect has it
    signal.SIGUSR2,  # that of spanctl run
)
_asked = threading.Event()
_flying: dict[int, Callable[[], str]] = {}
_depth = 0
_waiting: list[Callable[[], object]] = []


@contextmanager
def flying(txn_id: Callable[[], str]) -> Iterator[None]:
    """Count a transaction as in flight while the block runs.

    Args:
        txn_id: Returns its txn ID, which changes when the operation goes on in another epoch.
    """
    mark = id(txn_id)
    _flying[mark] = txn_id
    try:
        yield
    finally:
        _flying.pop(mark, None)


def in_flight() -> list[str]:
    """Return the txn IDs of the transactions that are in flight in this process."""
    return sorted({txn_id() for txn_id in list(_flying.values())})


def ask() -> None:
    """Have no statement begin in any thread of this process from now on: it is about to end."""
    _asked.set()


def check() -> None:
    """Return unless the process is about to end; the main thread is interrupted by itself.

    Raises:
        KeyboardInterrupt: It is, and this is another thread.
    """
    if _asked.is_set() and threading.current_thread() is not threading.main_thread():
        raise KeyboardInterrupt


def forget() -> None:
    """Go on as if nobody had asked."""
    _asked.clear()


def deliver(act: Callable[[], object]) -> None:
    """Do what a first signal means: at once, or when the shield ends; ``act`` may raise."""
    if _depth:
        _waiting.append(act)
    else:
        act()


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back a first signal until the block has ended; a second one gets through.

    Only the main thread is ever interrupted, so elsewhere this does nothing.
    """
    global _depth  # noqa: PLW0603 - there is one main thread
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced = {number: _hold_back(number) for number in _SIGNALS} if _depth == 0 else {}
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        for number, handler in replaced.items():
            if handler is not None:
                signal.signal(number, handler)
        if _depth == 0 and _waiting:
            first, *_ = _waiting
            _waiting.clear()
            first()


def _hold_back(number: int) -> Any:  # noqa: ANN401 - a handler, as signal has it
    """Put a handler in front of another one; return that, or None where nothing was replaced."""
    known = signal.getsignal(number)
    if not callable(known) or getattr(known, "knows_shields", False):
        return None

    def hold(number: int, frame: FrameType | None) -> None:
        if _waiting:
            known(number, frame)
        else:
            _waiting.append(lambda: known(number, None))

    signal.signal(number, hold)
    return known
