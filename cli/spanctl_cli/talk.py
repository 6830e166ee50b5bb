"""The only writer to stderr: what spanctl says to the person, beside the data on stdout."""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Final, TextIO, cast

from spanctl.printable import printable
from spanctl_cli.output.values import in_ascii, is_unicode

if TYPE_CHECKING:
    from rich.console import Console

_STYLES: Final = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "hint": "\x1b[2m",
    "more": "\x1b[2m",
}
_RESET: Final = "\x1b[0m"
_STDERR: Final = 2


def stderr_is_terminal() -> bool:
    """Whether a person reads stderr on a terminal."""
    return sys.stderr.isatty()


def coloured() -> bool:
    """Whether stderr may carry colours: a terminal that isn't dumb, and no ``NO_COLOR``."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return stderr_is_terminal() and not plain


def holds_unicode() -> bool:
    """Whether stderr can hold any character as it is."""
    return is_unicode(sys.stderr.encoding)


def replace_closed() -> None:
    """Give a process that was started without a stderr one that goes nowhere."""
    if sys.stderr is None:
        _to_nowhere()
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)


def write(text: str) -> None:
    """Write text to stderr, known secrets masked; that it went away is no reason to fail."""
    # Whoever holds a secret has loaded it; without it, or while that goes on in another thread,
    # there is none to mask.
    masking = sys.modules.get("spanctl.credentials.redact")
    if (redact := getattr(masking, "redact", None)) is not None:
        text = redact(text)
    try:
        sys.stderr.write(text if holds_unicode() else in_ascii(text))
        sys.stderr.flush()
    except OSError:
        # Else the interpreter's last flush fails as well, and its exit code is 120.
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr.fileno() == _STDERR:
                _to_nowhere()
    except ValueError:
        return


@contextlib.contextmanager
def children_silenced(silent: bool) -> Iterator[None]:
    """Let nothing of what child processes and C libraries write to stderr be seen meanwhile.

    What spanctl says itself still goes where stderr goes.
    """
    before = sys.stderr
    try:
        ours = silent and before.fileno() == _STDERR
    except (OSError, ValueError):
        ours = False
    if not ours:
        yield
        return
    before.flush()
    kept = os.dup(_STDERR)
    _to_nowhere()
    sys.stderr = os.fdopen(kept, "w", encoding=before.encoding, errors=before.errors, closefd=False)
    try:
        yield
    finally:
        os.dup2(kept, _STDERR)
        sys.stderr = before
        os.close(kept)


def _to_nowhere() -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDERR)
    if null != _STDERR:
        os.close(null)


def say(text: str, *, label: str = "") -> None:
    """Write one line to stderr, with a label such as ``warning`` before it."""
    line = printable(text)
    if label:
        style = _STYLES.get(label, "") if coloured() else ""
        line = f"{style}{label}:{_RESET if style else ''} {line}"
    write(f"{line}\n")


@contextlib.contextmanager
def status(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something is going on: a spinner, or one line on a plain one."""
    if quiet or not stderr_is_terminal():
        yield
        return
    if not coloured():
        say(text)
        yield
        return
    from rich.markup import escape

    with console().status(escape(printable(text)), spinner=spinner()):
        yield


def console() -> "Console":
    """Return a Rich console on stderr, for progress and live views."""
    from rich.console import Console

    file = None if holds_unicode() else cast("IO[str]", _Spelling(sys.stderr))
    return Console(stderr=True, file=file, highlight=False, emoji=False)


def spinner() -> str:
    """Return the name of the spinner that stderr can show."""
    return "dots" if holds_unicode() else "line"


class _Spelling(io.TextIOBase):
    """stderr, with the marks that it can't hold spelled in ASCII."""

    encoding = "ascii"

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream  # a live view puts itself in the place of sys.stderr meanwhile

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):  # as in talk.write()
            self._stream.write(in_ascii(text))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
