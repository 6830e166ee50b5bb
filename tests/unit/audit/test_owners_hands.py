"""Flow runs whose process died before it leased anything: the process itself tells of it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from spanctl import processes
from spanctl.audit.owners import DeadRun, Owners, is_of, is_running
from spanctl.clock import now
from spanctl.invocation import DATABASE_LABEL, LEDGER_LABEL, PROCESS_LABEL
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.processes import Hand, Mark, Process
from spanctl.spanner.executors import Executor
from spanctl.spanner.liveness import Judge, Verdict

LONG_AGO = now() - timedelta(minutes=10)


class Api:
    """Prefect, which tells of the states that a run went through."""

    def __init__(self, *past: State) -> None:
        self._past = list(past)

    def flow_run_states(self, _id: str) -> list[State]:
        return self._past


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Callable[[Process], None]:
    """Returns a function that says how every process is found."""

    def say(how: Process) -> None:
        monkeypatch.setattr(processes, "look", lambda *_: how)

    return say


def hand(role: str = "engine", since: datetime = LONG_AGO) -> Hand:
    return replace(Hand.own(role), since=since)


def run(
    state: State, given: Hand | None, *, deployment: str | None = "d", **labels: str
) -> FlowRun:
    kept = {PROCESS_LABEL: str(given)} if given else {}
    return FlowRun(
        id="run",
        name="brave-owl",
        flow_id="f",
        deployment_id=deployment,
        state=state,
        parameters={},
        labels={**labels, **kept},
    )


def state(kind: StateType, at: datetime = LONG_AGO, name: str = "", **more: Any) -> State:
    return State(kind, name or kind.value.title(), at, **more)


def death(found: FlowRun, *past: State, rows: tuple[Executor, ...] = ()) -> DeadRun | None:
    api: Any = Api(*past)
    known = {one.executor_id: one for one in rows}
    judge = Judge(executors=known, now=now(), look=lambda *_: Process.GONE)
    return next(iter(Owners(api, (), judge, runs={"run": found}).dead_runs()), None)


@pytest.mark.parametrize("kind", [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
def test_its_process_is_gone(seen: Callable[[Process], None], kind: StateType) -> None:
    """Whatever Prefect says it is doing; while the process runs, or can't be seen, it isn't."""
    found = run(state(kind), hand())
    seen(Process.GONE)
    dead = death(found)
    assert dead is not None
    assert (dead.verdict, dead.executor, dead.root) == (Verdict.GONE, None, "run")
    assert f"process {hand().pid} on {hand().host} is gone" in dead.note
    for how in (Process.RUNNING, Process.ELSEWHERE):
        seen(how)
        assert death(found) is None
        assert is_running(found) is (how is Process.RUNNING)


def test_a_worker_that_is_gone_may_have_left_an_engine(seen: Callable[[Process], None]) -> None:
    """Gone itself, what it has started is given time to say so; a run that goes on isn't its."""
    seen(Process.GONE)
    just_now = now() - timedelta(seconds=3)
    assert death(run(state(StateType.PENDING, just_now), hand("worker"))) is None
    assert death(run(state(StateType.PENDING), hand("worker", just_now))) is None
    assert death(run(state(StateType.PENDING), hand("worker"))) is not None
    assert death(run(state(StateType.RUNNING), hand("worker"))) is None


def test_another_process_took_it_meanwhile(seen: Callable[[Process], None]) -> None:
    """One that leaves no label: Prefect tells when it was Pending again."""
    seen(Process.GONE)
    lately = now() - timedelta(minutes=1)
    found = run(state(StateType.RUNNING, lately), hand())
    once = (state(StateType.PENDING, name="Pending"), state(StateType.PENDING, name="Submitting"))
    assert death(found, *once) is not None
    again = (*once, state(StateType.CRASHED), state(StateType.PENDING, lately))
    assert death(found, *again) is None
    second = run(state(StateType.RUNNING, lately), replace(hand(), claim=2))
    assert death(second, *again) is not None


def test_what_waits_is_begun_again_by_a_worker(seen: Callable[[Process], None]) -> None:
    """Unless no deployment says how, or it is overdue for longer than the bound."""
    seen(Process.GONE)
    for kind, name in ((StateType.SCHEDULED, "AwaitingRetry"), (StateType.PAUSED, "Paused")):
        assert death(run(state(kind, name=name), hand(), deployment=None)) is not None
        assert death(run(state(kind, name=name), hand())) is None
        soon, late = now() + timedelta(minutes=1), now() - timedelta(minutes=2)
        assert death(run(state(kind, name=name, until=soon), hand())) is None
        assert death(run(state(kind, name=name, until=late), hand())) is not None
    assert death(run(state(StateType.SCHEDULED), hand())) is None


def test_a_retry_of_its_own_is_begun_by_no_worker(seen: Callable[[Process], None]) -> None:
    """Prefect leaves it to the process that is gone."""
    soon = now() + timedelta(minutes=1)
    waits = run(state(StateType.SCHEDULED, name="AwaitingRetry", until=soon), hand())
    own = replace(waits, policy={"retry_type": "in_process"})
    seen(Process.RUNNING)
    assert death(own) is None
    seen(Process.GONE)
    assert death(own) is not None
    assert death(replace(waits, policy={"retry_type": "reschedule"})) is None
    planned = replace(own, state=state(StateType.SCHEDULED))
    assert death(planned) is None


def test_a_later_attempt_died_before_its_first_lease(seen: Callable[[Process], None]) -> None:
    """It is the later process that counts, not the executor of the attempt before."""
    row = Executor(
        executor_id="first",
        host="web-1",
        pid=1,
        mark=Mark("boot", 1, 2),
        parent=None,
        root="run",
        root_run="run",
        flow_run="run",
        version="1",
        deadline=60,
        interval=15,
        started_at=LONG_AGO - timedelta(minutes=5),
        heartbeat=LONG_AGO - timedelta(minutes=5),
    )
    first = state(StateType.PENDING, LONG_AGO - timedelta(minutes=6))
    past = (first, state(StateType.CRASHED), state(StateType.PENDING))
    found = run(state(StateType.RUNNING), replace(hand(), claim=2))
    seen(Process.RUNNING)
    assert death(found, *past, rows=(row,)) is None
    seen(Process.ELSEWHERE)
    assert death(found, *past, rows=(row,)) is None
    seen(Process.GONE)
    dead = death(found, *past, rows=(row,))
    assert dead is not None
    assert dead.executor is row
    assert death(run(state(StateType.RUNNING), None), *past, rows=(row,)) is None


def test_where_its_process_cant_be_looked_at(seen: Callable[[Process], None]) -> None:
    """On another host, or before a reboot: its executor tells, as it would without a label."""
    mine = hand()
    row = Executor(
        executor_id="one",
        host=mine.host,
        pid=mine.pid,
        mark=mine.mark,
        parent=None,
        root="run",
        root_run="run",
        flow_run="run",
        version="1",
        deadline=60,
        interval=15,
        started_at=LONG_AGO + timedelta(seconds=1),
        heartbeat=LONG_AGO,
    )
    seen(Process.ELSEWHERE)
    once = state(StateType.PENDING, LONG_AGO + timedelta(seconds=5))  # Prefect's clock is ahead
    dead = death(run(state(StateType.RUNNING), mine), once, rows=(row,))
    assert dead is not None
    assert dead.executor is row
    assert death(run(state(StateType.RUNNING), mine), once) is None


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, True),
        ({DATABASE_LABEL: "mine"}, True),
        ({DATABASE_LABEL: "another"}, False),
        ({f"{LEDGER_LABEL}.mine": "1", DATABASE_LABEL: "another"}, True),
        ({f"{LEDGER_LABEL}.another": "1", DATABASE_LABEL: "mine"}, False),
    ],
)
def test_which_database_it_is_of(labels: dict[str, str], expected: bool) -> None:
    """That which it has written to, or else the one that its process was set to."""
    found = run(state(StateType.RUNNING), None, **labels)
    assert is_of(found, "mine") is expected
    assert is_of(found, "")


@pytest.mark.parametrize(
    "text", ["", "engine", "engine 7", "engine x 2026-01-01T00:00:00Z 1 web-1"]
)
def test_what_is_no_such_label(text: str) -> None:
    """It says nothing."""
    assert Hand.parse(text) is None


def test_a_label_is_read_as_it_was_written() -> None:
    """To the second."""
    mine = replace(Hand.own("engine"), since=LONG_AGO.replace(microsecond=0))
    assert Hand.parse(str(mine)) == mine
    bare = replace(mine, mark=None)
    assert Hand.parse(str(bare)) == bare
