"""Ctrl-C and SIGTERM: which transactions they find in flight, and when they have to wait a moment.

Python raises what a signal means between any two steps of the main thread, also in the middle of a
Rollback. :func:`shielded` holds it back while a transaction is rolled back or resolved, which is
bounded in time, and while the reply is awaited that tells what there is to roll back. Other threads
are never interrupted: they find out at their next statement.
"""

import signal
import threading
import time
from _thread import start_new_thread
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
_longest: float | None = None
_waiting: list[Callable[[], object]] = []
_reminder: "Reminder | None" = None


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


def deliver(number: int, act: Callable[[], object]) -> None:
    """Do what a first signal means: at once, or when the shield ends; ``act`` may raise."""
    if _depth:
        _hold(number, act)
    else:
        act()


def reminded() -> bool:
    """Tell whether the signal that is handled is no second one, but reminds of one held back.

    That one has waited long enough: what it means is done here, and may raise.
    """
    if _reminder is None or not _reminder.is_due:
        return False
    _reminder.is_due = False
    _release()
    return True


def _hold(number: int, act: Callable[[], object]) -> None:
    global _reminder  # noqa: PLW0603 - there is one main thread
    _waiting.append(act)
    if _longest is not None and len(_waiting) == 1:
        _reminder = Reminder(number, _longest)


def _release() -> None:
    if _waiting:
        first, *_ = _waiting
        _waiting.clear()
        first()


class Reminder:
    """Sends the main thread a signal that could not act once more, in a while.

    Attributes:
        is_due: Whether it was sent, and not handled yet.
    """

    def __init__(self, number: int, seconds: float) -> None:
        """Begin to wait; called by a signal's handler, in the main thread."""
        self.is_due = False
        self._number = number
        self._main = threading.get_ident()
        self._over = False
        self._sending = threading.Lock()
        # Not as a Thread: the handler may have come in between while one is started, which locks.
        start_new_thread(self._wait, (seconds,))

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        with self._sending:
            if not self._over:
                self.is_due = True
                signal.pthread_kill(self._main, self._number)

    def cancel(self) -> None:
        """Send nothing any more."""
        with self._sending:
            self._over = True


@contextmanager
def shielded(longest: float | None = None) -> Iterator[None]:
    """Hold back a first signal until the block has ended; a second one gets through.

    Only the main thread is ever interrupted, so elsewhere this does nothing.

    Args:
        longest: Seconds after which a signal that was held back interrupts the block after all;
            None for never. Within another shield, that one's counts.
    """
    global _depth, _longest  # noqa: PLW0603 - there is one main thread
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    replaced: dict[int, Any] = {}
    if _depth == 0:
        _longest = longest
        replaced = {number: _hold_back(number) for number in _SIGNALS}
    _depth += 1
    try:
        yield
    finally:
        try:
            if _depth == 1:
                _longest = None
                if _reminder is not None:
                    _reminder.cancel()
        finally:  # the reminder may have come just now, and raise
            _depth -= 1
            for number, handler in replaced.items():
                if handler is not None:
                    signal.signal(number, handler)
            if _depth == 0:
                _release()


def _hold_back(number: int) -> Any:  # noqa: ANN401 - a handler, as signal has it
    """Put a handler in front of another one; return that, or None where nothing was replaced."""
    known = signal.getsignal(number)
    if not callable(known) or getattr(known, "knows_shields", False):
        return None

    def hold(number: int, frame: FrameType | None) -> None:
        if reminded():
            return
        if _waiting:
            known(number, frame)
        else:
            _hold(number, lambda: known(number, None))

    signal.signal(number, hold)
    return known
