"""Whether the process that holds a lease still runs, told for this machine alone."""

import os
import socket
import subprocess
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_SKEW: Final = timedelta(seconds=5)
"""How far this machine's clock and Spanner's may be apart."""
_PS_TIMEOUT: Final = 5.0


class Process(StrEnum):
    """What is known of a process."""

    RUNNING = "running"
    GONE = "gone"
    ELSEWHERE = "elsewhere"


def look(host: str | None, pid: int | None, since: datetime) -> Process:
    """Tell whether the process that took a lease still runs.

    A process of that number that was started after the lease is another one.

    Args:
        host: The machine that the lease names.
        pid: The process there.
        since: When the lease was taken.
    """
    if host != socket.gethostname() or pid is None:
        return Process.ELSEWHERE
    started = started_at(pid)
    if started is None or started > since + _SKEW:
        return Process.GONE
    return Process.RUNNING


def started_at(pid: int) -> datetime | None:
    """Return when a process of this machine was started; None when there is none.

    One that has ended and only waits for its parent to notice counts as none.
    """
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    if state in {"Z", "X"}:
        return None
    ticks = int(fields[18])  # since the boot
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
