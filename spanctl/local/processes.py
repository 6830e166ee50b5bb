"""Processes that outlive us: started, told apart from others that reuse their pid, ended whole."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from spanctl.errors import ConfigurationError

MARK: Final = "SPANCTL_LOCAL_STACK"
"""Environment variable that every process of a stack carries, and hands down to its children."""

_PROC: Final = Path("/proc")
_POLL: Final = 0.02


def identity(pid: int) -> str | None:
    """Return what tells this process from a later one with the same pid; None if there is none.

    A zombie is no process: it only waits for its parent to read how it ended.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None if _PROC.joinpath("self").exists() else _identity_by_ps(pid)
    except OSError as error:
        msg = f"can't look up process {pid}: {error.strerror}"
        raise ConfigurationError(msg) from error
    state, *fields = stat.rpartition(")")[2].split()
    if state in {"Z", "X"}:
        return None
    return f"{_boot()}:{fields[18]}"  # starttime, in ticks since the boot


def is_suspended(pid: int) -> bool:
    """Whether a signal has stopped the process, which may go on; False where that can't be told."""
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] == "T"


def writers(*paths: Path) -> set[int]:
    """Return the processes that hold a lock for writing on one of these files.

    Empty where there is no ``/proc``.
    """
    table = _PROC / "locks"
    if not table.exists():
        return set()
    wanted = {f":{path.stat().st_ino}" for path in paths if path.exists()}
    rows = [line.split() for line in table.read_text(encoding="ascii").splitlines()]
    held = (row for row in rows if "->" not in row and row[3] == "WRITE")
    return {int(row[4]) for row in held if any(row[5].endswith(one) for one in wanted)} - {0, -1}


def _boot() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _identity_by_ps(pid: int) -> str | None:
    command = ["ps", "-o", "state=,lstart=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed program
    state, _, started = shown.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def is_alive(pid: int, known: str) -> bool:
    """Whether the process that had this identity still runs."""
    return identity(pid) == known


def spawn(
    command: Sequence[str], environment: Mapping[str, str], log: Path, folder: Path
) -> tuple[int, str]:
    """Start a process in a session of its own, its output appended to ``log``, in ``folder``.

    Returns:
        Its pid and its identity.

    Raises:
        ConfigurationError: It can't be started, or the log can't be written.
    """
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        msg = f"can't write {log}: {error.strerror}"
        raise ConfigurationError(msg) from error
    try:
        child = subprocess.Popen(  # noqa: S603 - the commands are our own
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            umask=0o077,
        )
    except OSError as error:
        msg = f"can't start {command[0]}: {error.strerror}"
        raise ConfigurationError(msg) from error
    finally:
        os.close(output)
    # Read before anyone reaps it: even a child that died at once is still there, as a zombie.
    known = identity(child.pid) or "ended"
    threading.Thread(target=child.wait, daemon=True, name=f"reap-{child.pid}").start()
    return child.pid, known


def marked(value: str) -> set[int]:
    """Return the processes of the stack that carries this mark, except us and our ancestors.

    It finds what pid files can't: children of a part that died, or that left its session.
    Empty where there is no ``/proc``.
    """
    wanted = f"{MARK}={value}".encode()
    ours = _ancestry()
    found = set()
    for entry in _PROC.glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        with contextlib.suppress(OSError):  # another user's, or gone meanwhile
            if pid not in ours and wanted in entry.read_bytes().split(b"\0") and identity(pid):
                found.add(pid)
    return found


def _ancestry() -> set[int]:
    pid, found = os.getpid(), set()
    while pid > 0 and pid not in found:
        found.add(pid)
        try:
            stat = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break
        pid = int(stat.rpartition(")")[2].split()[1])
    return found


def end(targets: Iterable[int], grace: float) -> set[int]:
    """End processes: SIGTERM, and SIGKILL for those that still run after ``grace`` seconds.

    A target that leads its process group takes the group with it.

    Returns:
        The targets that had to be killed.
    """
    alive = {pid: known for pid in targets if (known := identity(pid))}
    for pid in alive:
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGCONT)  # one that is suspended would hear of it only then
    left = _wait(alive, grace)
    for pid in left:
        _signal(pid, signal.SIGKILL)
    _wait(left, grace)
    return set(left)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)


def _wait(targets: Mapping[int, str], seconds: float) -> dict[int, str]:
    deadline = time.monotonic() + seconds
    left = dict(targets)
    while left:
        left = {pid: known for pid, known in left.items() if is_alive(pid, known)}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(_POLL)
    return left
