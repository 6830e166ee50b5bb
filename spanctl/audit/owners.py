"""Who owns an operation without a receipt, and whether somebody still sees to it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from spanctl.clock import now
from spanctl.errors import NotPermittedError, SpanctlError, UnreachableError
from spanctl.orchestration.api import PrefectApi
from spanctl.orchestration.model import FlowRun, StateType
from spanctl.spanner.executors import Executor
from spanctl.spanner.limbo import Leased, OpenLease
from spanctl.spanner.liveness import Judge, Judged, Verdict

_BEGINNING: Final = frozenset({StateType.RUNNING, StateType.PENDING, StateType.SCHEDULED})
_EXECUTED: Final = frozenset({StateType.RUNNING, StateType.PENDING, StateType.CANCELLING})
"""In the other states that don't end a run nobody has to execute it: it may wait for long."""
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
        executor: The executor of its engine.
        verdict: How that is.
        note: How that is known, in a few words.
    """

    run: FlowRun
    executor: Executor
    verdict: Verdict
    note: str


@dataclass(slots=True)
class Owners:
    """Judges the owners of operations; asks Prefect once for each root flow run.

    Attributes:
        api: Prefect's API; None when none is set.
        leases: Every open lease.
        judge: Judges executors.
        trouble: Why Prefect could not be asked; empty when it could.
        runs: The root flow runs, as Prefect told them; None for those that it doesn't know.
    """

    api: PrefectApi | None
    leases: Sequence[OpenLease] = ()
    judge: Judge = field(default_factory=Judge)
    trouble: str = ""
    runs: dict[str, FlowRun | None] = field(default_factory=dict)
    _judged: dict[str, Judged] = field(default_factory=dict)

    def ask(self) -> None:
        """Read the root flow runs of the leases and executors, all at once."""
        held = {one.root_run for one in self.leases}
        roots = sorted(filter(None, held | {one.root_run for one in self._executors}))
        if not roots:
            return
        if self.api is None:
            self.trouble = "no Prefect API is set"
            return
        try:
            found = {run.id: run for run in self.api.flow_runs(roots)}
        except (UnreachableError, NotPermittedError) as error:
            self.trouble = error.message
        except SpanctlError as error:
            self.trouble = f"Prefect's answer can't be used: {error.message}"
        else:
            self.runs = {root: found.get(root) for root in roots}

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
        found: dict[str, DeadRun] = {}
        for one in self._executors:
            run = self.run(one.root_run) if one.root_run else None
            if run is None or run.state is None or one.parent:
                continue
            judged = self.judge.of(one)
            if run.state.type not in _EXECUTED or not judged.verdict.is_dead:
                continue
            if self._alive(run.id) is None and not self._is_begun_again(run, one.started_at):
                note = f"Prefect says {run.state.name}, but {judged.evidence}"
                found[run.id] = DeadRun(run, one, judged.verdict, note)
        return list(found.values())

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
        return None

    def _is_begun_again(self, run: FlowRun, since: datetime) -> bool:
        """Tell whether a run was handed to another process since an executor of it began.

        Each process that executes a run finds it Pending; a retry within one doesn't pass there.
        """
        if run.state is None or run.state.timestamp <= since:
            return False
        if self.api is None:
            return True  # who could tell isn't there
        try:
            states = self.api.flow_run_states(run.id)
        except SpanctlError:
            return True
        return any(one.type is StateType.PENDING and one.timestamp > since for one in states)
