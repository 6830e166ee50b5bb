"""Who owns an operation without a receipt, and whether somebody still sees to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from spanctl.clock import now
from spanctl.errors import NotPermittedError, SpanctlError, UnreachableError
from spanctl.invocation import (
    DATABASE_LABEL,
    LEDGER_LABEL,
    PROCESS_LABEL,
    key_of,
)
from spanctl.ledger.keys import keyed_root
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, State, StateType
from spanctl.processes import Hand, Process, count_claims
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import Leased, OpenLease
from spanctl.spanner.liveness import Judge, Judged, Verdict

_BEGINNING: Final = frozenset({StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED})
_EXECUTED: Final = frozenset({StateType.RUNNING, StateType.PENDING, StateType.CANCELLING})
"""In the other states that don't end a run nobody has to execute it: it may wait for long."""
_STARTS: Final = timedelta(seconds=20)
"""How long a process may take to begin that a worker has started, though the worker is gone."""
_ORDER: Final = tuple(Verdict)


@dataclass(frozen=True, slots=True)
class Owned:
    """What is known of an operation's owner.

    Attributes:
        verdict: How the executor is that owns it.
        lease: The lease of the executor that counts.
        note: How that is known, in a few words.
        run: The root flow run, as Prefect tells it; None where it doesn't.
        is_begun_again: Whether Prefect says that the run was begun again since the lease.
    """

    verdict: Verdict
    lease: OpenLease
    note: str
    run: FlowRun | None = None
    is_begun_again: bool = False


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A root flow run that has not ended, and whose executor is dead.

    Attributes:
        run: The flow run, as Prefect tells it.
        verdict: How its process is.
        note: How that is known, in a few words.
        executor: The executor of its engine; None where it died before it leased anything.
        hand: The process that it was given to; None where no label says so.
    """

    run: FlowRun
    verdict: Verdict
    note: str
    executor: Executor | None = None
    hand: Hand | None = None

    @property
    def root(self) -> str:
        """First part of its operation keys."""
        if self.executor is not None and self.executor.root:
            return self.executor.root
        key = key_of(self.run.labels)
        return self.run.id if key is None else keyed_root(key)

    @property
    def process(self) -> Executor | Hand | None:
        """Who it was that died: the executor, else the process."""
        return self.executor or self.hand

    @property
    def heard(self) -> datetime | None:
        """When it was last heard from."""
        if self.executor is not None:
            return self.executor.heartbeat
        return self.hand.since if self.hand else None


@dataclass(slots=True)
class Owners:
    """Judges the owners of operations; asks Prefect once for each root flow run.

    Attributes:
        api: Prefect's API; None when none is set.
        leases: Every open lease.
        judge: Judges executors.
        trouble: Why Prefect could not be asked; empty when it could.
        runs: The root flow runs, as Prefect told them; None for those that it doesn't know.
        database: The full name of the database whose runs are wanted; empty for any.
    """

    api: PrefectApi | None
    leases: Sequence[OpenLease] = ()
    judge: Judge = field(default_factory=Judge)
    trouble: str = ""
    runs: dict[str, FlowRun | None] = field(default_factory=dict)
    database: str = ""
    _judged: dict[str, Judged] = field(default_factory=dict)

    def ask(self) -> None:
        """Read the flow runs that have not ended, and those of the leases and executors."""
        held = {one.root_run for one in self.leases}
        roots = set(filter(None, held | {one.root_run for one in self._executors}))
        if self.api is None:
            self.trouble = "no Prefect API is set" if roots else ""
            return
        try:
            begun = self.api.unended_runs()
            found = {run.id: run for run in begun if PROCESS_LABEL in run.labels}
            found = {name: run for name, run in found.items() if is_of(run, self.database)}
            found |= {run.id: run for run in self.api.flow_runs(sorted(roots - found.keys()))}
        except (UnreachableError, NotPermittedError) as error:
            self.trouble = error.message
        except SpanctlError as error:
            self.trouble = f"Prefect's answer can't be used: {error.message}"
        else:
            self.runs = {**dict.fromkeys(roots), **found}

    @property
    def _executors(self) -> Iterable[Executor]:
        return self.judge.executors.values()

    def run(self, root_run: str) -> FlowRun | None:
        """Return a root flow run; None where Prefect doesn't know it, or could not be asked."""
        return self.runs.get(root_run)

    def of(self, operation: Leased) -> Owned:
        """Return how the owner of an operation is."""
        return self.of_all(operation.leases)

    def of_all(self, leases: Iterable[OpenLease]) -> Owned:
        """Return how the owner of what one or more leases hold is."""
        judged = [self.of_lease(lease) for lease in leases]
        return min(judged, key=lambda owned: _ORDER.index(owned.verdict))

    def of_lease(self, lease: OpenLease) -> Owned:
        """Return how the executor of a lease is; one of the same run that lives speaks for it."""
        judged = self._of(lease)
        run = self.run(lease.root_run) if lease.root_run else None
        says = f"; Prefect says {run.state.name}" if run and run.state else ""
        again = self._goes_on(lease.root_run, lease.since) if judged.verdict.is_dead else None
        if again is not None:
            return Owned(again.verdict, lease, f"{judged.evidence}; {again.evidence}", run)
        state = run.state if run else None
        later = state is not None and state.type in _BEGINNING and state.timestamp > lease.since
        return Owned(judged.verdict, lease, f"{judged.evidence}{says}", run, later)

    @property
    def hides_dead_runs(self) -> bool:
        """Whether an executor of a flow run is dead, and Prefect can't say if the run ended."""
        if not self.trouble or self.api is None:
            return False
        return any(self.judge.of(one).verdict.is_dead for one in self._executors if one.root_run)

    def dead_runs(self) -> list[DeadRun]:
        """Return the root flow runs that nobody executes any more and that have not ended."""
        found = (self._death_of(run) for run in self.runs.values() if run is not None)
        return [one for one in found if one is not None]

    def is_executed(self, run: FlowRun) -> bool:
        """Whether somebody may execute a flow run: all that is known of it isn't dead."""
        if self._alive(run.id) is not None or is_running(run):
            return True
        return any(not self.judge.of(one).verdict.is_dead for one in self._rows(run))

    def _rows(self, run: FlowRun) -> list[Executor]:
        """Return the executors of a flow run's engines, those that began first first."""
        rows = [one for one in self._executors if run.id in {one.root_run, one.flow_run}]
        return sorted((one for one in rows if not one.parent), key=lambda one: one.started_at)

    def _death_of(self, run: FlowRun) -> DeadRun | None:
        """Return how a flow run died; None where it has ended, is alive, or that isn't known."""
        state = run.state
        if state is None or not _has_to_be_executed(run, state, self.judge.bound):
            return None
        if self.is_executed(run):
            return None
        said = f"Prefect says {state.name}"
        rows, hand = self._rows(run), _hand(run)
        last = rows[-1] if rows else None
        if hand is not None and not (last is not None and _is_same(last, hand)):
            # The executors, if any, are of other attempts, or of another one than this label.
            if hand.look() is Process.GONE:
                dead = DeadRun(run, Verdict.GONE, f"{said}, but {hand.place} is gone", last, hand)
                return dead if self._is_left(run, hand) else None
            if last is None or hand.since > last.started_at:
                return None
        if last is None or self._is_begun_again(run, last, hand):
            return None
        judged = self.judge.of(last)
        return DeadRun(run, judged.verdict, f"{said}, but {judged.evidence}", last, hand)

    def _is_left(self, run: FlowRun, hand: Hand) -> bool:
        """Tell whether a process that is gone has left a run to no other one."""
        if run.state is None:
            return False
        if hand.role == "worker":
            # What it has started has the run once that is Running, and may be about to say so.
            began = max(run.state.timestamp, hand.since)
            if run.state.type is not StateType.PENDING or now() - began < _STARTS:
                return False
        states = self._states(run)
        return states is not None and _claims(states) <= hand.claim

    def _of(self, lease: OpenLease) -> Judged:
        if lease.intent_id not in self._judged:
            self._judged[lease.intent_id] = self.judge.of_lease(lease)
        return self._judged[lease.intent_id]

    def _goes_on(self, root: str | None, since: datetime) -> Judged | None:
        """Return who goes on with the run of a dead executor; None where nobody is known to."""
        if root is None:
            return None
        if (alive := self._alive(root)) is not None:
            return alive
        run = self.run(root)
        state = run.state if run else None
        if state is None or state.type not in _BEGINNING or state.timestamp <= since:
            return None
        # Executed again, it may not have come to its first lease yet.
        hand = _hand(run) if run else None
        if run and hand and hand.look() is Process.GONE and self._is_left(run, hand):
            return None
        if now() - state.timestamp > timedelta(seconds=self.judge.bound):
            return None
        return Judged(Verdict.NOT_KNOWN, f"Prefect says {state.name}, since a moment ago")

    def _alive(self, root: str) -> Judged | None:
        """Return the executor of a root flow run's engine that is alive; None where none is."""
        if other := self.judge.alive(root):
            told = f"its run goes on in process {other.pid} on {other.host}"
            return Judged(Verdict.ALIVE, told)
        for one in self.leases:
            unknown = one.root_run == root and one.executor not in self.judge.executors
            if unknown and self._of(one).verdict is Verdict.ALIVE:
                told = f"its run goes on in process {one.pid} on {one.host}"
                return Judged(Verdict.ALIVE, told)
        run = self.run(root)
        if run is None or run.state is None or run.state.type.is_final or not is_running(run):
            return None
        return Judged(Verdict.ALIVE, "its run goes on in a process here", is_seen=True)

    def _is_begun_again(self, run: FlowRun, last: Executor, hand: Hand | None) -> bool:
        """Tell whether a run was handed to another process since an executor of it began.

        Each process that executes a run finds it Pending; a retry within one doesn't pass there.
        """
        if run.state is None or (run.state.timestamp <= last.started_at and hand is None):
            return False
        states = self._states(run)
        if states is None:
            return True
        if hand is not None and _is_same(last, hand):
            return _claims(states) > hand.claim
        if _claims(states) <= 1:
            return False
        kinds = (one for one in states if one.type is StateType.PENDING)
        return any(one.timestamp > last.started_at for one in kinds)

    def _states(self, run: FlowRun) -> Sequence[State] | None:
        """Return the states that a run went through; None where that can't be told."""
        if self.api is None:
            return None
        try:
            return self.api.flow_run_states(run.id)
        except SpanctlError:
            return None


def _claims(states: Iterable[State]) -> int:
    return count_claims(one.type is StateType.PENDING for one in states)


def _is_same(executor: Executor, hand: Hand) -> bool:
    """Tell whether an executor is in the process that a run was given to."""
    return (executor.host, executor.pid, executor.mark) == (hand.host, hand.pid, hand.mark)


def _hand(run: FlowRun) -> Hand | None:
    """Return the process that a flow run was given to last; None where no label says so."""
    text = run.labels.get(PROCESS_LABEL)
    return None if text is None else Hand.parse(str(text))


def is_of(run: FlowRun, database: str) -> bool:
    """Tell whether a flow run writes to a database, or may be about to; any when it is empty."""
    written = {name for name in run.labels if name.startswith(f"{LEDGER_LABEL}.")}
    if written:
        return not database or f"{LEDGER_LABEL}.{database}" in written
    return not database or run.labels.get(DATABASE_LABEL) in {None, database}


def is_running(run: FlowRun) -> bool:
    """Tell whether the process that has a flow run is seen to run on this machine."""
    hand = _hand(run)
    return hand is not None and hand.role == "engine" and hand.look() is Process.RUNNING


def _has_to_be_executed(run: FlowRun, state: State, bound: float) -> bool:
    """Tell whether a process has to be there for a run in this state to go on.

    One of a deployment that waits is begun by its worker again, unless that is long overdue; but
    a retry of the flow's own is its process's to begin.
    """
    if state.type in _EXECUTED:
        return True
    retries = state.name == "AwaitingRetry"
    if not retries and state.type is not StateType.PAUSED:
        return False
    if retries and run.retries_in_process:
        return True
    if run.deployment_id is None:
        return True
    return state.until is not None and now() - state.until > timedelta(seconds=bound)
