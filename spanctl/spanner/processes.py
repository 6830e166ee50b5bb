"""Whether the process that holds a lease still runs, told for this machine and pid namespace."""

import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from spanctl.spanner import holders
from spanctl.spanner.holders import Mark
from spanctl.spanner.limbo import OpenLease

_PROC: Final = Path("/proc")
_SKEW: Final = timedelta(seconds=5)
"""How far this machine's clock and Spanner's may be apart."""
_PS_TIMEOUT: Final = 5.0


class Process(StrEnum):
    """What is known of a process."""

    RUNNING = "running"
    GONE = "gone"
    ELSEWHERE = "elsewhere"


def look(host: str | None, pid: int | None, since: datetime, marked: Mark | None = None) -> Process:
    """Tell whether the process that took a lease still runs.

    A process of that number in another pid namespace is another one, and not seen from here; one
    that was started after the lease is another one, too.

    Args:
        host: The machine that the lease names.
        pid: The process there.
        since: When the lease was taken.
        marked: The process's mark; None where the lease keeps none.
    """
    if host != socket.gethostname() or pid is None or holders.is_blind():
        return Process.ELSEWHERE
    mine = holders.mark()
    if marked is not None:
        if mine is None or not mine.is_beside(marked):
            return Process.ELSEWHERE
        return Process.RUNNING if holders.ticks_of(pid) == marked.ticks else Process.GONE
    started = started_at(pid)
    if started is None or started > since + _SKEW:
        return Process.GONE
    if pid == os.getpid() and mine is not None:
        return Process.ELSEWHERE  # this process marks its leases: it is another of that number
    return Process.RUNNING


def of_lease(lease: OpenLease) -> Process:
    """Tell whether the process that took a lease still runs."""
    return look(lease.host, lease.pid, lease.since, lease.mark)


def started_at(pid: int) -> datetime | None:
    """Return when a process of this machine was started; None when there is none.

    One that has ended and only waits for its parent to notice counts as none.
    """
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(pid)
    ticks = holders.ticks_of(pid)
    if ticks is None:
        return None
    return _boot() + timedelta(seconds=ticks / os.sysconf("SC_CLK_TCK"))


def _boot() -> datetime:
    for line in (_PROC / "stat").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(" ")
        if name == "btime":
            return datetime.fromtimestamp(int(value), UTC)
    return datetime.fromtimestamp(0, UTC)  # then every process counts as one that was there


def _started_by_ps(pid: int) -> datetime | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    shown = subprocess.run(  # noqa: S603 - fixed program
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=_PS_TIMEOUT,
        env={**os.environ, "LC_ALL": "C"},
    )
    state, _, started = shown.stdout.strip().partition(" ")
    if not state or state.startswith("Z"):
        return None
    return datetime.strptime(
        started.strip(), "%a %b %d %H:%M:%S %Y"
    ).astimezone()  # ps tells local time
