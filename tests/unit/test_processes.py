"""Whether a process of this machine runs, and which one of its number it is."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from spanctl import processes
from spanctl.processes import Process, look, mark, started_at


def test_this_process_runs_and_one_that_ended_is_gone() -> None:
    """By its number on this machine; of another machine nothing is said."""
    here, now = socket.gethostname(), datetime.now(UTC)
    assert look(here, os.getpid(), now, mark()) is Process.RUNNING
    assert look(here, os.getppid(), now) is Process.RUNNING
    assert look("another", os.getpid(), now) is Process.ELSEWHERE
    assert look(here, None, now) is Process.ELSEWHERE
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
        assert look(here, ended.pid, now) is Process.GONE


def test_a_number_that_is_used_again_is_another_process() -> None:
    """A process that was started after the lease can't have taken it."""
    started = started_at(os.getpid())
    assert started is not None
    assert abs(started - datetime.now(UTC)) < timedelta(days=1)
    assert look(socket.gethostname(), os.getpid(), started - timedelta(hours=1)) is Process.GONE


@pytest.mark.skipif(mark() is None, reason="this system tells no mark")
def test_a_number_counts_where_it_was_given_out() -> None:
    """Restarted in its pod, a process has the name and the number of the one that was killed."""
    here, now, mine = socket.gethostname(), datetime.now(UTC), mark()
    assert mine is not None
    for other in (
        replace(mine, namespace=mine.namespace + 1),
        replace(mine, boot="another"),
    ):
        assert look(here, os.getpid(), now, other) is Process.ELSEWHERE
        assert look(here, os.getppid(), now, other) is Process.ELSEWHERE
    # A namespace's inode is given out again once it has ended.
    before = replace(mine, ticks=mine.ticks - 1)
    assert look(here, os.getpid(), now, before) is Process.GONE
    # An older client marked nothing, and this process's own leases are marked.
    assert look(here, os.getpid(), now) is Process.ELSEWHERE


def test_what_a_lease_keeps_of_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows from before marks were kept are read as they are; so is what a system can't tell."""
    known = processes.Mark("a-boot", 4026531836, 17)
    assert processes.parse(f"web-1 {known}") == ("web-1", known)
    for kept in ("web-1", "my machine", "web-1 x/y/z", "web-1 1/2", "", None):
        assert processes.parse(kept) == (kept, None)
    name = socket.gethostname()
    assert processes.parse(processes.here()) == (name, mark())
    assert processes.is_own(name, os.getpid(), mark())
    monkeypatch.setattr(processes, "is_blind", lambda: True)
    assert processes.here() == name
    assert look(name, os.getppid(), datetime.now(UTC)) is Process.ELSEWHERE


def test_a_zombie_process_is_gone() -> None:
    """It only waits for its parent to read how it ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert started_at(child.pid) is None
    finally:
        child.wait()


def _unshared(*words: str) -> "subprocess.Popen[str]":
    code = (
        "import os, sys; from spanctl.processes import Hand;"
        "print(Hand.own('engine'), flush=True); sys.stdin.read()"
    )
    return subprocess.Popen(
        [*words, sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.parametrize(
    "words",
    [
        ("unshare", "--time", "--boottime", "1000"),
        ("unshare", "--pid", "--fork", "--mount-proc"),
        ("unshare", "--uts", "sh", "-c", 'hostname web-7 && exec "$@"', "sh"),
    ],
    ids=["another clock", "other numbers", "another host"],
)
def test_a_living_process_in_a_namespace_of_its_own_is_never_gone(words: tuple[str, ...]) -> None:
    """It can't be looked at from here; its heartbeat tells."""
    with _unshared(*words) as living:
        assert living.stdout is not None
        hand = processes.Hand.parse(living.stdout.readline().strip())
        if hand is None:
            pytest.skip("this system lets nobody make namespaces")
        assert hand.look() is Process.ELSEWHERE
        living.communicate("")
