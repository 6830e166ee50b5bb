"""The longest time that a flow in this process may take."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNAL: Final = signal.SIGUSR2  # Prefect's own timeouts use SIGALRM


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

    main = threading.main_thread()
    before = signal.signal(_SIGNAL, interrupt)
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main.ident or 0, _SIGNAL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        armed = False  # a signal that is on its way no longer harms what has ended
        timer.cancel()
        timer.join()
        signal.signal(_SIGNAL, before)
