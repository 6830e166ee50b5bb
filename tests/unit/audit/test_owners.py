"""Whether the run that owns an operation goes on, from its process and what Prefect says."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from spanctl.audit.owners import Owner, Owners
from spanctl.spanner.processes import Process, look, started_at
from spanctl.errors import UnreachableError
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.spanner import holders
from spanctl.spanner.holders import mark
from spanctl.spanner.limbo import Leased, OpenLease

LEASED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BEFORE, AFTER = LEASED - timedelta(minutes=1), LEASED + timedelta(minutes=1)
KEY = OperationKey("run", (), "pay", 0)


class Api:
    """Prefect, saying one thing of every flow run."""

    def __init__(self, kind: StateType | None, at: datetime = BEFORE) -> None:
        self._kind, self._at = kind, at

    def flow_runs(self, ids):
        if self._kind is None:
            return []
        state = State(self._kind, self._kind.value.title(), self._at)
        return [
            FlowRun(id=one, name="brave-owl", flow_id="f", state=state, parameters={}, labels={})
            for one in ids
        ]


class Silent:
    def flow_runs(self, _ids):
        msg = "Prefect at 127.0.0.1 did not answer"
        raise UnreachableError(msg)


def lease(name: str = "a", root_run: str | None = "run") -> OpenLease:
    return OpenLease(
        intent_id=name,
        executor=name,
        keys=(KEY,),
        root_run=root_run,
        host="worker-1",
        pid=7,
        since=LEASED,
    )


def judged(api, process: Process | dict[str, Process], *leases: OpenLease) -> tuple[Owner, str]:
    held = leases or (lease(),)
    known = process if isinstance(process, dict) else dict.fromkeys("ab", process)
    owners = Owners(api, held, lambda one: known[one.intent_id])
    owners.ask()
    owned = owners.of(Leased(txn_id=txn_id(KEY), key=KEY, epoch=0, leases=held))
    return owned.owner, owned.note


R, G, E = Process.RUNNING, Process.GONE, Process.ELSEWHERE


@pytest.mark.parametrize(
    ("kind", "process", "owner"),
    [
        (StateType.RUNNING, R, Owner.ALIVE),
        (StateType.RUNNING, E, Owner.ALIVE),
        (StateType.RUNNING, G, Owner.CRASHED),
        (StateType.CANCELLING, R, Owner.ALIVE),
        (StateType.CANCELLING, G, Owner.CANCELLED),
        (StateType.CANCELLED, R, Owner.ZOMBIE),
        (StateType.CANCELLED, G, Owner.CANCELLED),
        (StateType.CANCELLED, E, Owner.CANCELLED),
        (StateType.CRASHED, R, Owner.ZOMBIE),
        (StateType.CRASHED, G, Owner.CRASHED),
        (StateType.COMPLETED, G, Owner.ENDED),
        (StateType.FAILED, E, Owner.ENDED),
        (StateType.SCHEDULED, G, Owner.WAITING),
        (StateType.PENDING, G, Owner.WAITING),
        (StateType.PAUSED, G, Owner.WAITING),
        (None, R, Owner.ALIVE),
        (None, G, Owner.CRASHED),
        (None, E, Owner.UNKNOWN),
    ],
)
def test_what_prefect_and_the_process_say_together(kind, process, owner) -> None:
    """A final state over a live process is a zombie; a gone process under Running is a crash."""
    assert judged(Api(kind), process)[0] is owner


@pytest.mark.parametrize(
    ("process", "owner"), [(R, Owner.ALIVE), (G, Owner.CRASHED), (E, Owner.UNKNOWN)]
)
def test_without_a_flow_run_the_process_decides(process, owner) -> None:
    """Plain Python has no orchestrator to ask, and needs none."""
    assert judged(None, process, lease(root_run=None))[0] is owner


@pytest.mark.parametrize("process", [R, G, E])
@pytest.mark.parametrize("api", [Silent(), None])
def test_unreachable_prefect_is_unknown_and_said(api, process) -> None:
    """A run that may be retried is nobody's to end while Prefect can't be asked."""
    owner, note = judged(api, process)
    assert owner is Owner.UNKNOWN
    assert "Prefect" in note


def test_a_run_that_was_executed_again_is_alive() -> None:
    """The process of the lease is gone, but the run went into Running after it."""
    assert judged(Api(StateType.RUNNING, AFTER), G)[0] is Owner.ALIVE


def test_a_second_executor_speaks_for_the_run() -> None:
    """One executor is gone, another of the same run lives: its operation isn't fenced."""
    both = (lease("a"), lease("b"))
    owner, _ = judged(Api(StateType.RUNNING), {"a": G, "b": R}, *both)
    assert owner is Owner.ALIVE
    owner, note = judged(Api(StateType.CRASHED), {"a": G, "b": R}, *both)
    assert (owner, "but process 7 on worker-1 runs" in note) == (Owner.ZOMBIE, True)


def test_only_those_in_charge_or_unknown_are_spared() -> None:
    """What is over may be fenced; what sees to itself is in flight; the rest is neither."""
    assert {one for one in Owner if one.is_in_charge} == {Owner.ALIVE, Owner.WAITING}
    assert {one for one in Owner if not one.is_over} == {
        Owner.ALIVE,
        Owner.WAITING,
        Owner.UNKNOWN,
    }


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
    known = holders.Mark("a-boot", 4026531836, 17)
    assert holders.parse(f"web-1 {known}") == ("web-1", known)
    for kept in ("web-1", "my machine", "web-1 x/y/z", "web-1 1/2", "", None):
        assert holders.parse(kept) == (kept, None)
    name = socket.gethostname()
    assert holders.parse(holders.here()) == (name, mark())
    assert holders.is_own(name, os.getpid(), mark())
    monkeypatch.setattr(holders, "is_blind", lambda: True)
    assert holders.here() == name
    assert look(name, os.getppid(), datetime.now(UTC)) is Process.ELSEWHERE


def test_a_zombie_process_is_gone() -> None:
    """It only waits for its parent to read how it ended."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert started_at(child.pid) is None
    finally:
        child.wait()
