"""Which process a rotator is, and whether another one is provably dead."""

import getpass
import os
import socket
import uuid
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def this_owner() -> str:
    """Return a new id for a rotator in this process: boot, process, its start, and chance."""
    pid = os.getpid()
    return f"{_boot()}/{pid}/{_started(pid)}/{uuid.uuid4().hex[:12]}"


def this_one() -> str:
    """Return who this process is, for people; it is claimed, not proven."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"


def is_gone(owner: str) -> bool:
    """Tell whether an owner ran on this very boot of this machine and has ended; else False."""
    parts = owner.split("/")
    if len(parts) != 4 or not parts[0] or parts[0] != _boot():  # noqa: PLR2004 - the parts above
        return False
    _, pid, started, _ = parts
    return pid.isdecimal() and _started(int(pid)) != started


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot; empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    # A zombie does nothing any more.
    return "" if fields[0] in {"Z", "X"} else fields[19]
