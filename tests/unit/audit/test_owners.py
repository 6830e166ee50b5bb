"""Who sees to an operation: its executor, one of the same run that lives, or nobody."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanctl.audit.owners import Owned, Owners
from spanctl.clock import now
from spanctl.errors import UnreachableError
from spanctl.invocation import PROCESS_LABEL
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.processes import Hand, Mark, Process
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import Leased, OpenLease
from spanctl.spanner.liveness import Judge, Verdict

LEASED = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
BEFORE = LEASED - timedelta(minutes=1)
KEY = OperationKey("run", (), "pay", 0)


class Api:
    """Prefect, saying one thing of every flow run."""

    def __init__(
        self, kind: StateType | None, at: datetime = BEFORE, past: Any = (), hand: str = ""
    ) -> None:
        self._kind, self._at, self._past = kind, at, past
        self._labels = {PROCESS_LABEL: hand} if hand else {}

    def unended_roots(self) -> list[FlowRun]:
        return []

    def flow_run_states(self, _id: str) -> list[State]:
        if self._past is None:
            msg = "Prefect did not answer"
            raise UnreachableError(msg)
        return [State(one, one.value.title(), self._at) for one in self._past]

    def flow_runs(self, ids: list[str]) -> list[FlowRun]:
        if self._kind is None:
            return []
        state = State(self._kind, self._kind.value.title(), self._at)
        return [
            FlowRun(
                id=one,
                name="brave-owl",
                flow_id="f",
                state=state,
                parameters={},
                labels=self._labels,
                deployment_id="d",
            )
            for one in ids
        ]


class Silent:
    def unended_roots(self) -> list[FlowRun]:
        msg = "Prefect at 127.0.0.1 did not answer"
        raise UnreachableError(msg)

    def flow_runs(self, _ids: object) -> list[FlowRun]:
        msg = "Prefect at 127.0.0.1 did not answer"
        raise UnreachableError(msg)


def lease(name: str = "a", root_run: str | None = "run") -> OpenLease:
    return OpenLease(
        intent_id=name,
        executor=name,
        keys=(KEY,),
        root_run=root_run,
        host=name,
        pid=7,
        since=LEASED,
    )


def executor(name: str = "a", root_run: str | None = "run", **more: Any) -> Executor:
    return Executor(
        executor_id=name,
        host=name,
        pid=7,
        mark=Mark("a-boot", 1, 2),
        parent=None,
        root="run",
        root_run=root_run,
        flow_run=root_run,
        version="1",
        deadline=60,
        interval=15,
        started_at=LEASED,
        heartbeat=LEASED,
        **more,
    )


def owners(api: Any, known: dict[str, Process], *rows: Executor, leases: Any = ()) -> Owners:
    judge = Judge(
        executors={one.executor_id: one for one in rows},
        now=LEASED + timedelta(minutes=10),
        look=lambda host, *_: known[host],
    )
    made = Owners(api, leases, judge)
    made.ask()
    return made


def judged(api: Any, known: dict[str, Process], *held: OpenLease) -> Owned:
    operation = Leased(txn_id=txn_id(KEY), key=KEY, epoch=0, leases=held)
    return owners(api, known, leases=held).of(operation)


R, G, E = Process.RUNNING, Process.GONE, Process.ELSEWHERE


@pytest.mark.parametrize("kind", [*StateType, None])
@pytest.mark.parametrize(
    ("process", "verdict"),
    [(R, Verdict.ALIVE), (G, Verdict.GONE), (E, Verdict.NOT_KNOWN)],
)
def test_the_process_decides_whatever_prefect_says(kind, process, verdict) -> None:
    """Prefect's state is the weakest evidence: it outlives the process, and is told beside it."""
    found = judged(Api(kind), {"a": process}, lease())
    assert found.verdict is verdict
    assert ("Prefect says" in found.note) is (kind is not None)


@pytest.mark.parametrize("api", [Silent(), None])
def test_prefect_need_not_be_asked(api) -> None:
    """What a dead process holds is in limbo, also while Prefect is silent, which is told."""
    found = owners(api, {"a": G}, leases=(lease(),))
    assert found.of_lease(lease()).verdict is Verdict.GONE
    assert "Prefect" in found.trouble


def test_a_second_executor_speaks_for_the_run() -> None:
    """One is gone, another of the same run lives: what it may still come to is in flight."""
    both = (lease("a"), lease("b"))
    assert judged(Api(StateType.RUNNING), {"a": G, "b": R}, *both).verdict is Verdict.ALIVE
    apart = owners(Api(StateType.RUNNING), {"a": G, "b": R}, leases=both).of_lease(both[0])
    assert (apart.verdict, "goes on in process 7 on b" in apart.note) == (Verdict.ALIVE, True)
    row = owners(Api(StateType.RUNNING), {"a": G, "b": R}, executor("b"), leases=both[:1])
    assert row.of_lease(both[0]).verdict is Verdict.ALIVE
    part = replace(executor("b"), parent="a")
    orphan = owners(Api(StateType.RUNNING), {"a": G, "b": R}, part, leases=both[:1])
    assert orphan.of_lease(both[0]).verdict is Verdict.GONE
    alone = owners(None, {"a": G, "b": R}, executor("b", "another run"), leases=both[:1])
    assert alone.of_lease(both[0]).verdict is Verdict.GONE


def test_a_run_that_was_just_begun_again_is_not_known() -> None:
    """It may not have come to its first lease; after the bound it counts as dead, too."""
    fresh, old = now() - timedelta(seconds=5), now() - timedelta(minutes=5)
    assert judged(Api(StateType.RUNNING, fresh), {"a": G}, lease()).verdict is Verdict.NOT_KNOWN
    assert judged(Api(StateType.RUNNING, old), {"a": G}, lease()).verdict is Verdict.GONE
    assert judged(Api(StateType.RUNNING, BEFORE), {"a": G}, lease()).verdict is Verdict.GONE
    assert judged(Api(StateType.COMPLETED, fresh), {"a": G}, lease()).verdict is Verdict.GONE
    assert judged(Api(StateType.RUNNING, old), {"a": G}, lease()).is_begun_again
    assert not judged(Api(StateType.RUNNING, BEFORE), {"a": G}, lease()).is_begun_again


@pytest.mark.parametrize("kind", [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
def test_a_run_that_has_not_ended_and_whose_executor_is_dead(kind) -> None:
    """It is dead, whether or not a transaction of it is open."""
    (dead,) = owners(Api(kind), {"a": G}, executor()).dead_runs()
    assert (dead.run.id, dead.verdict) == ("run", Verdict.GONE)
    assert dead.note == f"Prefect says {kind.value.title()}, but process 7 on a is gone"


@pytest.mark.parametrize(
    ("kind", "rows", "known"),
    [
        (StateType.COMPLETED, [executor()], {"a": G}),
        (StateType.CRASHED, [executor()], {"a": G}),
        (StateType.PAUSED, [executor()], {"a": G}),
        (StateType.SCHEDULED, [executor()], {"a": G}),
        (None, [executor()], {"a": G}),
        (StateType.RUNNING, [executor()], {"a": R}),
        (StateType.RUNNING, [executor()], {"a": E}),
        (StateType.RUNNING, [executor(), executor("b")], {"a": G, "b": R}),
        (StateType.RUNNING, [replace(executor(), parent="b")], {"a": G}),
        (StateType.RUNNING, [executor(root_run=None)], {"a": G}),
    ],
)
def test_what_is_no_dead_run(kind, rows, known) -> None:
    """Ended, waiting, alive, not known, gone on with, or only a part of an engine's run."""
    assert owners(Api(kind), known, *rows).dead_runs() == []


@pytest.mark.parametrize(
    ("states", "is_dead"),
    [
        ([StateType.PENDING, StateType.RUNNING], False),
        ([StateType.SCHEDULED, StateType.RUNNING], True),
        (None, False),
    ],
)
def test_a_run_that_another_process_took_up_is_not_dead(states, is_dead) -> None:
    """It passes through Pending; a retry in the process that died does not."""
    api = Api(StateType.RUNNING, LEASED + timedelta(minutes=5), states)
    assert bool(owners(api, {"a": G}, executor()).dead_runs()) is is_dead


@pytest.mark.parametrize(("pid", "is_dead"), [(7, True), (8, False)])
def test_a_run_that_died_elsewhere_is_judged_by_its_row(pid, is_dead) -> None:
    """The label tells of the same process, which can't be looked at; of another one it counts."""
    mark = Mark("a-boot", 1, 2)
    hand = Hand(role="engine", host="web-7", pid=pid, since=LEASED, mark=mark)
    api = Api(StateType.RUNNING, hand=str(hand))
    row = executor("web-7", superseded_at=LEASED, superseded_by="a recoverer")
    assert bool(owners(api, {"web-7": E}, row).dead_runs()) is is_dead


def test_silence_of_prefect_hides_which_runs_are_dead() -> None:
    """None is named, and that some may be is known."""
    found = owners(Silent(), {"a": G}, executor())
    assert (found.dead_runs(), found.hides_dead_runs) == ([], True)
    assert not owners(Silent(), {"a": R}, executor()).hides_dead_runs
    assert not owners(None, {"a": G}, executor()).hides_dead_runs
