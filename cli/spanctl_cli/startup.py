"""Ctrl-C and SIGTERM where nothing is at stake: before a command begins, and once it has ended.

Only what Python itself has loaded is imported here: the rest of the command line takes a moment.
"""

import os
import signal
from types import FrameType
from typing import Any, NoReturn

_ENDS = {signal.SIGINT: (b"interrupted", 130), signal.SIGTERM: (b"terminated", 143)}


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


def arm() -> None:
    """Have a signal end the process at once, with one line."""
    put(leave)


def is_armed() -> bool:
    """Tell whether signals end the process at once."""
    return signal.getsignal(signal.SIGTERM) is leave


def put(handler: Any) -> None:  # noqa: ANN401 - as signal has it
    """Put a handler in place of those that are there, but where signals are ignored."""
    for number in _ENDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is behind nohup, or after &
            signal.signal(number, handler)


def leave(number: int, _frame: FrameType | None = None) -> NoReturn:
    """End the process here and now."""
    word, code = _ENDS[signal.Signals(number)]
    try:
        # Not by way of sys.stderr: the signal may have come while that was being written.
        os.write(2, b"error: " + word + b"\n")
    finally:
        os._exit(code)


class Deaf:
    """A handler for the moment in which the end is told: it takes a second signal to stop that."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._heard = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Pass over the first."""
        if self._heard:
            leave(number)
        self._heard = True
