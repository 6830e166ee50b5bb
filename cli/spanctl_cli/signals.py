"""Ctrl-C and SIGTERM: the first unwinds what runs, a second Ctrl-C leaves at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Final, NoReturn

from spanctl import interrupts
from spanctl_cli.boundary import Terminated
from spanctl_cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import socket

_SHOWN: Final = 20
_BYTES: Final = 64
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
        self._heard = False

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Unwind the process, so that open transactions are resolved; or leave."""
        if interrupts.reminded():
            return
        if self._heard:
            _leave(number)
        self._heard = True
        interrupts.ask()
        interrupts.deliver(number, lambda: _raise(number))


def _raise(number: int) -> NoReturn:
    if number == signal.SIGTERM:
        raise Terminated
    raise KeyboardInterrupt


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
    handler = _Handler()
    interrupts.forget()
    signal.signal(signal.SIGTERM, handler)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as it is behind nohup, or after &
        signal.signal(signal.SIGINT, handler)
