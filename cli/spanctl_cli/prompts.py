"""Questions to the person, asked on stderr, and never of a script."""

import os
import select
import signal
import sys

from spanctl.errors import SpanctlError, UsageError
from spanctl.printable import printable
from spanctl_cli import talk
from spanctl_cli.context import AppContext


class DeclinedError(SpanctlError):
    """The person answered no; nothing was done (exit 1)."""

    code = "declined"


def can_ask(app: AppContext) -> bool:
    """Whether there is a person to ask: stdin and stderr are terminals, and no ``--no-input``."""
    return not app.no_input and sys.stdin.isatty() and talk.stderr_is_terminal()


def confirm(app: AppContext, question: str, *, yes: bool, hint: str = "pass --yes") -> None:
    """Return when the person agrees.

    Args:
        app: The invocation.
        question: Ends with a question mark.
        yes: The value of ``--yes``: agreed beforehand.
        hint: How a script agrees.

    Raises:
        UsageError: Nobody can be asked.
        DeclinedError: The answer was not yes.
    """
    if yes:
        return
    if not can_ask(app):
        msg = f"this needs a yes: {question}"
        raise UsageError(msg, hint=hint)
    talk.write(f"{printable(question)} [y/N] ")
    if _answer().strip().lower() not in {"y", "yes"}:
        msg = "not confirmed, nothing was done"
        raise DeclinedError(msg)


def _answer() -> str:
    """Read a line from the person.

    A signal that comes in just before a read begins would not end it: Python's handler runs only
    once the read is over. So what is waited for is the line or a byte that each signal writes.
    """
    ear, mouth = os.pipe()
    os.set_blocking(mouth, False)
    before = signal.set_wakeup_fd(mouth, warn_on_full_buffer=False)
    try:
        while sys.stdin not in select.select([sys.stdin, ear], [], [])[0]:
            os.read(ear, 1)  # its handler has run by now, and raised if it was to
        return sys.stdin.readline()
    finally:
        signal.set_wakeup_fd(before)
        os.close(ear)
        os.close(mouth)
