"""``--verbose`` and ``--debug``: requests, as one line each on stderr."""

import os
import sys
import threading
from collections.abc import Callable

from spanctl import __version__, clock, exchanges
from spanctl.exchanges import Exchange
from spanctl_cli import talk
from spanctl_cli.output.values import duration


def show(*, debug: bool) -> Callable[[], None]:
    """Show each request that this process sends from now on.

    Prefect's own engine, which runs flows in this process, talks to its server by itself: that is
    not shown.

    Args:
        debug: Show also when each is sent, at which time and in which thread.

    Returns:
        What ends that.
    """
    if not debug:
        return exchanges.listen(_verbose)
    version = ".".join(map(str, sys.version_info[:3]))
    talk.say(f"spanctl {__version__}, Python {version}, pid {os.getpid()}", label="debug")
    return exchanges.listen(_debug)


def _verbose(told: Exchange) -> None:
    if told.seconds is not None:
        talk.say(_line(told), label="request")


def _debug(told: Exchange) -> None:
    thread = threading.current_thread().name
    talk.say(f"{clock.rfc3339(clock.now())} {thread} {_line(told)}", label="request")


def _line(told: Exchange) -> str:
    how = "sent" if told.seconds is None else f"{told.status} in {duration(told.seconds)}"
    return f"{told.system} {told.method} at {told.target}: {how}"
