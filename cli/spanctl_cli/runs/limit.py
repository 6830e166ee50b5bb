"""The longest time that a flow in this process may take."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from spanctl import unraisable

_SIGNAL: Final = signal.SIGUSR2  # Prefect's own timeouts use SIGALRM
_AGAIN: Final = 0.05
"""Seconds until it is tried again to interrupt what could not be."""


class TimedOut(KeyboardInterrupt):
    """The time was over; it unwinds as Ctrl-C does, so open transactions are resolved."""


@contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """Interrupt the block, which runs in the main thread, when its time is over.

    Args:
        seconds: The time; None for any.

    Raises:
        TimedOut: It was over. What the block needs to unwind comes on top.
    """
    if seconds is None:
        yield
        return
    armed = True

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        if armed:
            raise TimedOut

    before = signal.signal(_SIGNAL, interrupt)
    timers = [_ring(seconds)]
    try:
        with unraisable.again(TimedOut, lambda: timers.append(_ring(_AGAIN))):
            yield
    finally:
        armed = False  # a signal that is on its way no longer harms what has ended
        for timer in timers:
            timer.cancel()
            timer.join()
        signal.signal(_SIGNAL, before)


def _ring(seconds: float) -> threading.Timer:
    main = threading.main_thread().ident or 0
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main, _SIGNAL))
    timer.daemon = True
    timer.start()
    return timer
