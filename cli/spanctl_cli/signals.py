"""Ctrl-C and SIGTERM: the first unwinds what runs, a second Ctrl-C leaves at once."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from spanctl import interrupts, unraisable
from spanctl_cli import startup
from spanctl_cli.exit_codes import ExitCode
from spanctl_cli.startup import Terminated

if TYPE_CHECKING:
    import socket

_SHOWN: Final = 20
_BYTES: Final = 64
_LOADING: Final = "<frozen importlib._bootstrap>"
_AGAIN: Final = 0.02
_LONGEST_LOAD: Final = 5.0
"""Seconds after which a module that is still being loaded is interrupted after all."""
_CURSOR: Final = "\x1b[?25h\n"
"""Shows the cursor again, which a live view hides."""


class _Handler:
    """Raises what a signal means, once; then leaves.

    Attributes:
        knows_shields: Tells :mod:`spanctl.interrupts` that it waits by itself.
    """

    knows_shields: Final = True

    def __init__(self) -> None:
        """Start with nothing heard."""
        self.heard = 0
        self._until = 0.0
        self._reminder: interrupts.Reminder | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Unwind the process, so that open transactions are resolved; or leave."""
        if interrupts.reminded():
            return
        if self._reminder is not None and self._reminder.is_due:
            self._reminder.is_due = False
        elif self.heard:
            _leave(number)
        else:
            self.heard = number
            self._until = time.monotonic() + _LONGEST_LOAD
            interrupts.ask()
        if _loads(frame) and time.monotonic() < self._until:
            # What interrupts a module that is being loaded may end as anything, or be lost.
            self.again()
            return
        interrupts.deliver(number, lambda: _raise(number))

    def again(self) -> None:
        """Have what was heard come again in a moment, as if for the first time."""
        self._reminder = interrupts.Reminder(self.heard, _AGAIN)

    def end(self) -> None:
        """Let nothing come again any more."""
        if self._reminder is not None:
            self._reminder.cancel()


def _loads(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _LOADING:
            return True
        frame = frame.f_back
    return False


def _meaning(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise(number: int) -> NoReturn:
    raise _meaning(number)


def _leave(number: int) -> NoReturn:
    """End the process here and now, and say what it leaves open."""
    open_still = interrupts.in_flight()
    lines = [f"  spanctl txn resolve {txn_id}" for txn_id in open_still[:_SHOWN]]
    if len(open_still) > _SHOWN:
        lines.append(f"  and {len(open_still) - _SHOWN} more: spanctl txn resolve --all")
    if not lines:
        lines = ["  spanctl txn list"]
        told = "left at once; nothing was in flight, what is leased still is seen by:"
    else:
        told = "left at once; what was in flight is found out by:"
    try:
        cursor = _CURSOR if os.isatty(2) else ""
        # Not by way of sys.stderr: the signal may have come while that was being written.
        os.write(2, "\n".join([f"{cursor}error: {told}", *lines, ""]).encode())
    finally:
        code = ExitCode.TERMINATED if number == signal.SIGTERM else ExitCode.INTERRUPTED
        os._exit(code)


@contextmanager
def heard_by_threads() -> Iterator[None]:
    """Have other threads stop at their next statement when a signal arrives inside the block.

    Prefect puts a handler of its own before SIGTERM's, and waits for its threads then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import socket

    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    listener = threading.Thread(target=_listen, args=(ear,), name="spanctl-signals", daemon=True)
    listener.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        mouth.close()
        listener.join()
        ear.close()
        interrupts.forget()


def _listen(ear: "socket.socket") -> None:
    ending = {signal.SIGINT, signal.SIGTERM}
    while heard := ear.recv(_BYTES):
        if ending.intersection(heard):
            interrupts.ask()


def arm() -> None:
    """Make SIGTERM unwind the process as Ctrl-C does, and a second of them end it."""
    _arm()


def _arm() -> _Handler:
    interrupts.forget()
    handler = _Handler()
    startup.put(handler)
    return handler


@contextmanager
def unwinding() -> Iterator[None]:
    """Have signals unwind the block, where the program has them end it at once.

    Behind the block the first one is passed over until :func:`rest`: how it ended is being told.
    """
    if not startup.is_armed():
        yield
        return
    handler = _arm()
    try:
        with unraisable.again(KeyboardInterrupt, handler.again):
            yield
    finally:
        if handler.heard:
            _heard.append(_meaning(handler.heard))
        startup.put(startup.Deaf())
        handler.end()


_heard: list[KeyboardInterrupt] = []


def heard() -> KeyboardInterrupt | None:
    """Return what the signal means that came in the block of :func:`unwinding`, if one did."""
    if _heard:
        return _heard[-1]
    handler = signal.getsignal(signal.SIGINT)
    return _meaning(handler.heard) if isinstance(handler, _Handler) and handler.heard else None


def rest() -> None:
    """Have signals end the process at once again."""
    _heard.clear()
    if isinstance(signal.getsignal(signal.SIGTERM), startup.Deaf):
        startup.arm()
