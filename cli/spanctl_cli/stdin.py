"""What is piped or redirected into a command."""

import sys
from typing import Final

from spanctl.errors import UsageError

_LARGEST: Final = 64 * 1024 * 1024


def is_redirected() -> bool:
    """Tell whether stdin is something else than a person at a terminal."""
    return sys.stdin is not None and not sys.stdin.closed and not sys.stdin.isatty()


def read() -> bytes:
    """Return all of it, of a terminal until its end is typed.

    Raises:
        UsageError: There is no stdin, or it is larger than 64 MiB.
    """
    if sys.stdin is None or sys.stdin.closed:
        msg = "stdin is closed"
        raise UsageError(msg, hint="name a file instead")
    try:
        found = sys.stdin.buffer.read(_LARGEST + 1)
    except OSError as error:
        msg = f"stdin can't be read: {error.strerror}"
        raise UsageError(msg, hint="name a file instead") from None
    if len(found) > _LARGEST:
        msg = "stdin is larger than 64 MiB"
        raise UsageError(msg, hint="cut it into several commands")
    return found
