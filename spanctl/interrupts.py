"""Ctrl-C and SIGTERM: which transactions they find in flight, and when they have to wait a moment.

Python raises what a signal means between any two steps of the main thread, also in the middle of a
Rollback. :func:`shielded` holds it back while a transaction is rolled back or resolved, which is
bounded in time.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
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


def is_shielded() -> bool:
    """Tell whether a first signal has to wait."""
    return _depth > 0


def deliver_later(act: Callable[[], object]) -> None:
    """Have ``act`` called when the shield ends; it may raise."""
    _waiting.append(act)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back a first SIGINT or SIGTERM until the block has ended; a second one gets through.

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
            deliver_later(lambda: known(number, None))

    signal.signal(number, hold)
    return known
