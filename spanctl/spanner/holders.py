"""What a lease keeps of the process that holds it, so that nobody takes another one for it.

A process's number counts in one pid namespace of one boot, and is given out again there: in a
container that is started again the new process often has the number of the old one. So a mark
stands behind the machine's name, as ``web-1 BOOT/NAMESPACE/TICKS``. Where the system tells none,
and in rows from before marks were kept, there is the name alone.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_PROC: Final = Path("/proc")
_ENDED: Final = frozenset({"Z", "X"})


@dataclass(frozen=True, slots=True)
class Mark:
    """Which process of a machine it is, beside its number.

    Attributes:
        boot: The kernel's id of the boot.
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
    except OSError:
        return None
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


def is_own(host: str | None, pid: int | None, marked: Mark | None) -> bool:
    """Tell whether a lease is of this process."""
    return (host, pid, marked) == (socket.gethostname(), os.getpid(), mark())
