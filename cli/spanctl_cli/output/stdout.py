"""Bytes to stdout: one function writes them, and knows what can go wrong with a pipe."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from spanctl.errors import SpanctlError
from spanctl_cli.output.values import is_unicode

_state = {"gone": False}
_diverted: list[TextIO] = []


def _stream() -> TextIO:
    return _diverted[0] if _diverted else sys.stdout


@contextlib.contextmanager
def diverted(to: TextIO) -> Iterator[None]:
    """Send what others print (a flow's own code) to ``to``; results still go to stdout.

    What doesn't pass Python (a child process, a C library) goes to stderr meanwhile.
    """
    with _descriptor_kept() as stream:
        _diverted.append(stream)
        try:
            with contextlib.redirect_stdout(to):
                yield
        finally:
            _diverted.pop()


@contextlib.contextmanager
def _descriptor_kept() -> Iterator[TextIO]:
    """Yield a stream to where stdout goes, while descriptor 1 goes where stderr does."""
    before = sys.stdout
    try:
        ours = before.fileno() == 1
    except (OSError, ValueError):
        ours = False
    if not ours:
        yield before
        return
    before.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    stream = os.fdopen(
        kept, "w", encoding=before.encoding, errors=before.errors, closefd=False, newline=""
    )
    try:
        yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def replace_closed() -> None:
    """Give a process that was started without a stdout one that refuses what is written to it.

    Else the next file or connection that is opened gets its number, and results go there.
    """
    if sys.stdout is not None:
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 1)
    if null != 1:
        os.close(null)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)


def write(text: str) -> None:
    """Write text to stdout and flush it; does nothing once the reader of the pipe went away.

    Raises:
        SpanctlError: stdout can't be written for another reason, such as a full disk.
    """
    if _state["gone"] or not text:
        return
    stream = _stream()
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:
            encoding = stream.encoding or "ascii"
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        abandon()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        abandon()
        msg = f"can't write to stdout: {reason}"
        raise SpanctlError(msg, hint="what the command did is done; look it up again") from error


def abandon() -> None:
    """Send whatever else is written to stdout nowhere, the interpreter's last flush included."""
    _state["gone"] = True
    try:
        descriptor = _stream().fileno()
    except (OSError, ValueError):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def reader_gone() -> bool:
    """Whether the reader of the pipe went away, so that endless output may stop."""
    return _state["gone"]


def pipe_is_broken() -> bool:
    """Whether stdout is a pipe whose reader went away, found out without writing to it."""
    if _state["gone"]:
        return True
    import select

    poll = select.poll()
    try:
        poll.register(_stream().fileno(), select.POLLOUT)
    except (OSError, ValueError):
        return False
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def renew() -> None:
    """Forget what happened to an earlier stdout: called once for every invocation."""
    _state["gone"] = False


def holds_unicode() -> bool:
    """Whether stdout can hold any character as it is."""
    return is_unicode(_stream().encoding)


def stdout_is_terminal() -> bool:
    """Whether a person reads stdout on a terminal that can be drawn on."""
    return _stream().isatty()
