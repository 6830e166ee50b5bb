"""Which process of a machine it is, and whether it runs, so that nobody takes another one for it.

A process's number counts in one pid namespace of one boot, and is given out again there: in a
container that is started again the new process often has the number of the old one. So a mark
tells more: boot, namespace, and when it was started. Leases keep it behind the machine's name, as
``web-1 BOOT/NAMESPACE/TICKS``. Where the system tells none, and in rows from before marks were
kept, there is the name alone.
"""

import os
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_ENDED: Final = frozenset({"Z", "X"})
_SKEW: Final = timedelta(seconds=5)
"""How far this machine's clock and Spanner's may be apart."""
_PS_TIMEOUT: Final = 5.0
_CLOCK: Final = 0xEFFFFFFA
"""The inode of the time namespace that a machine begins with (``include/linux/proc_ns.h``)."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Which process of a machine it is, beside its number.

    Attributes:
        boot: The kernel's id of the boot; behind it the time namespace, where that isn't the first.
        namespace: The inode of the pid namespace; it is given out again when that has ended.
        ticks: When the process was started, in the kernel's ticks since the boot.
    """

    boot: str
    namespace: int
    ticks: int

    def __str__(self) -> str:
        """Write it as a lease keeps it."""
        return f"{self.boot}/{self.namespace}/{self.ticks}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what a lease keeps; None for what is no mark."""
        boot, *numbers = text.split("/")
        try:
            namespace, ticks = map(int, numbers)
        except ValueError:
            return None
        return cls(boot, namespace, ticks)

    def is_beside(self, other: "Mark") -> bool:
        """Whether both processes' numbers count in one place, as far as can be told."""
        return (self.boot, self.namespace) == (other.boot, other.namespace)


def mark() -> Mark | None:
    """Return this process's mark; None where the system doesn't tell."""
    if is_blind():
        return None
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = (_PROC / "self/ns/pid").stat().st_ino
        clock = (_PROC / "self/ns/time").stat().st_ino if (_PROC / "self/ns/time").exists() else 0
    except OSError:
        return None
    if clock not in {0, _CLOCK}:
        boot = f"{boot}+{clock}"  # ticks count from another moment there
    ticks = ticks_of(os.getpid())
    return None if ticks is None else Mark(boot, namespace, ticks)


def is_blind() -> bool:
    """Whether numbers lead to others' processes: a pid namespace without a ``/proc`` of its own."""
    try:
        return (_PROC / "self").readlink().name != str(os.getpid())
    except OSError:
        return (_PROC / "stat").exists()


def ticks_of(pid: int) -> int | None:
    """Return when a process was started, in ticks since the boot; None when there is none.

    One that has ended and only waits for its parent to notice counts as none.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in _ENDED else int(fields[18])


def here() -> str:
    """Return what a lease of this process keeps as its host."""
    name, known = socket.gethostname(), mark()
    return name if known is None else f"{name} {known}"


def parse(kept: str | None) -> tuple[str | None, Mark | None]:
    """Return the machine's name and the mark of what a lease keeps as its host."""
    if kept is None:
        return None, None
    name, _, marked = kept.partition(" ")
    known = Mark.parse(marked)
    return (name, known) if known else (kept, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hand:
    """The process that a flow run was given to, as a label of the run keeps it.

    Attributes:
        role: What it is: ``worker``, which may yet start another one, or ``engine``.
        host: The machine.
        pid: The process there.
        since: When it was given the run, by that machine's clock.
        claim: How often the run had been taken by then, this time included.
        mark: Which process of that number it is; None where the system didn't tell.
    """

    role: str
    host: str
    pid: int
    since: datetime
    claim: int
    mark: Mark | None

    @classmethod
    def own(cls, role: str, claim: int = 1) -> Self:
        """Return this process, which has taken a run for the so-manieth time."""
        host, marked = parse(here())
        since = datetime.now(UTC).replace(microsecond=0)
        return cls(
            role=role, host=host or "", pid=os.getpid(), since=since, claim=claim, mark=marked
        )

    def __str__(self) -> str:
        """Write it as a label keeps it."""
        kept = f"{self.host} {self.mark}" if self.mark else self.host
        return f"{self.role} {self.pid} {self.since:%Y-%m-%dT%H:%M:%SZ} {self.claim} {kept}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what a label keeps; None for what is no such label."""
        try:
            role, pid, since, claim, kept = text.split(" ", 4)
            begun = datetime.strptime(since, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
            host, marked = parse(kept)
            return cls(
                role=role,
                host=host or "",
                pid=int(pid),
                since=begun,
                claim=int(claim),
                mark=marked,
            )
        except ValueError:
            return None

    def look(self) -> "Process":
        """Tell whether it runs."""
        return look(self.host, self.pid, self.since, self.mark)

    @property
    def place(self) -> str:
        """Which process it is, in words."""
        return f"process {self.pid} on {self.host}"


def count_claims(pending: Iterable[bool]) -> int:
    """Return how often a process has taken a flow run.

    Whoever takes one has it Pending first, and nobody takes one that is Pending.

    Args:
        pending: For each state that the run went through, the oldest first, whether it was that.
    """
    found, before = 0, False
    for one in pending:
        found += one and not before
        before = one
    return found


def is_own(host: str | None, pid: int | None, marked: Mark | None) -> bool:
    """Tell whether a lease is of this process."""
    return (host, pid, marked) == (socket.gethostname(), os.getpid(), mark())


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
    if host != socket.gethostname() or pid is None or is_blind():
        return Process.ELSEWHERE
    mine = mark()
    if marked is not None:
        if mine is None or not mine.is_beside(marked):
            return Process.ELSEWHERE
        return Process.RUNNING if ticks_of(pid) == marked.ticks else Process.GONE
    started = started_at(pid)
    if started is None or started > since + _SKEW:
        return Process.GONE
    if pid == os.getpid() and mine is not None:
        return Process.ELSEWHERE  # this process marks its leases: it is another of that number
    return Process.RUNNING


def started_at(pid: int) -> datetime | None:
    """Return when a process of this machine was started; None when there is none.

    One that has ended and only waits for its parent to notice counts as none.
    """
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(pid)
    ticks = ticks_of(pid)
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
