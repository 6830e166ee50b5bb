"""``spanctl creds exec``: a child process, the signals on their way to it, and how it ended."""

import errno
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import typer
from typer.core import TyperCommand

from spanctl.errors import UsageError
from spanctl_cli import talk
from spanctl_cli.startup import Terminated

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_SIGNALLED: Final = 128
_META: Final = "spanctl.command"
_FROM_TERMINAL: Final = frozenset({signal.SIGINT, signal.SIGQUIT})
_FORWARDED: Final = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


class Trailing(TyperCommand):
    """A command whose ``--`` ends its own arguments: what follows is another program's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Parse what stands before ``--``, and keep the rest as it is."""
        if "--" in args:
            at = args.index("--")
            ctx.meta[_META] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - Typer's vendored type
        """Say where the other program's words go."""
        return [*super().collect_usage_pieces(ctx), "-- COMMAND [ARG]..."]


def command(ctx: typer.Context) -> tuple[str, ...]:
    """Return the words after ``--``.

    Raises:
        UsageError: There are none.
    """
    words: tuple[str, ...] = ctx.meta.get(_META, ())
    if not words:
        msg = "no command was given"
        raise UsageError(msg, hint="write it after --, such as: spanctl creds exec -- gcloud info")
    return words


class Child:
    """A child process that gets the signals that were meant for it."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = False
        self._early: list[int] = []

    def run(self, words: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run a program to its end and return its exit code; 128 and the number for a signal.

        One that there isn't is 127, one that can't be executed 126, each told in a line.
        """
        self._starting = True
        try:
            self._process = process = subprocess.Popen(words, env=dict(environ))  # noqa: S603 - what was asked for
        except (OSError, ValueError) as error:
            return _refused(words[0], error)
        for number in self._early:
            process.send_signal(number)
        code = process.wait()
        return code if code >= 0 else _SIGNALLED - code

    def forward(self, number: int, _frame: FrameType | None) -> None:
        """Pass a signal on; before there is a child it ends this process in good order."""
        if not self._starting:
            raise KeyboardInterrupt if number == signal.SIGINT else Terminated
        if self._process is None:
            self._early.append(number)
        elif number not in _FROM_TERMINAL or not _in_foreground():
            self._process.send_signal(number)  # else the terminal sent it to the child as well


@contextmanager
def forwarding() -> Iterator[Child]:
    """Yield a child to be; signals go to it until the block, and its clean-up, have ended."""
    child = Child()
    before = {number: signal.getsignal(number) for number in _FORWARDED}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup, or a shell's background job
            signal.signal(number, child.forward)
    try:
        yield child
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_foreground() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def _refused(name: str, error: OSError | ValueError) -> int:
    missing = isinstance(error, OSError) and error.errno in {errno.ENOENT, errno.ENOTDIR}
    if missing:
        talk.say(f"there is no command {name!r}", label="error")
        return NOT_FOUND
    reason = error.strerror if isinstance(error, OSError) else "a word holds a NUL"
    talk.say(f"can't execute {name!r}: {reason}", label="error")
    return NOT_EXECUTABLE
