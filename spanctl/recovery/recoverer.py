"""A recoverer: ends flow runs that died, and has them run again, each attempt once.

Several may be at work, and each may die at any point. An attempt is a row that one of them
inserted; who dies with it is superseded as any executor is, and the attempt is taken over.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spanctl.audit import deaths
from spanctl.audit.outside import outside
from spanctl.clock import monotonic
from spanctl.closing import Closing
from spanctl.errors import ConflictError
from spanctl.invocation import LEDGER_LABEL, SETTLED_LABEL
from spanctl.ledger.phases import Phase
from spanctl.orchestration.model import FlowRun, StateType
from spanctl.recovery.candidates import Candidate, Found
from spanctl.spanner import executors, leases, predecessors, receipts, recoveries
from spanctl.spanner.executors import Enrolment
from spanctl.spanner.heartbeat import heart
from spanctl.spanner.recoveries import Attempt, Ending

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.spanner.client import Database

ROOT: Final = "spanctl recovery"
"""The root of a recoverer's row, which leases nothing: no operation key begins so."""
ATTEMPTS: Final = 3
"""How often a run is run again, unless told otherwise."""
_TIMEOUT: Final = 10.0
_CLAIMED_WITHIN: Final = 60.0
"""Seconds in which the process that is to go on with a run of a file says that it has it."""
_POLL: Final = 0.25


class Action(StrEnum):
    """What was done about a flow run that died."""

    RERUN = "rerun"
    ENDED = "ended"
    EXHAUSTED = "exhausted"
    LEFT = "left"
    PASSED = "passed"

    @property
    def is_alarm(self) -> bool:
        """Whether a person has to see to it."""
        return self in {Action.EXHAUSTED, Action.LEFT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What became of a flow run that died.

    Attributes:
        run: The run, as it was found.
        action: What was done.
        note: How it is known that it died, or why it wasn't run again.
        attempt: Which attempt to run it again that was; None where it was none.
        hint: What to type next; empty for nothing.
    """

    run: FlowRun
    action: Action
    note: str
    attempt: int | None = None
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a recoverer goes about it.

    Attributes:
        attempts: How often a run is run again at most.
        force: Whether to run again what has work outside of transactions whose end isn't known.
    """

    attempts: int = ATTEMPTS
    force: bool = False


class Recoverer(Closing):
    """One recoverer at work; a context manager. It is written down once it has something to do.

    Attributes:
        database: The database whose ledger keeps the attempts.
        api: Prefect.
    """

    def __init__(
        self,
        database: "Database",
        api: "PrefectApi",
        *,
        reach: "Callable[[str], Database]",
        resume: Callable[[FlowRun], Path],
        policy: Policy | None = None,
    ) -> None:
        """Begin with nothing done.

        Args:
            database: The database whose ledger keeps the attempts.
            api: Prefect.
            reach: Returns another database that a run has written to, by its full name.
            resume: Starts a process that goes on with a run of a file, and returns where it logs;
                raises where it can't.
            policy: How to go about it.
        """
        self.database = database
        self.api = api
        self._reach = reach
        self._resume = resume
        self._policy = policy or Policy()
        self._executor: str | None = None

    def close(self) -> None:
        """Take its row away."""
        if self._executor is None:
            return
        ended, self._executor = self._executor, None
        heart.stop(ended)
        leases.close(self.database, [], executors=[ended])

    def settle(self, found: Found) -> int:
        """Make final what dead executors hold besides the runs; return how many leases that were.

        Raises:
            SpanctlError: The database could not be read or written.
        """
        if not found.leases:
            return 0
        me = self._enrolled()
        known = found.owners.judge.executors
        rows = [known[name] for name in {one.executor for one in found.leases} & known.keys()]
        done = executors.supersede(self.database, rows, by=me)
        dead = [one for one in found.leases if one.executor in done or one.executor not in known]
        predecessors.settle_leases(self.database, dead, found.held)
        predecessors.forget(self.database, [one for one in rows if one.executor_id in done])
        return len(dead)

    def tidy(self, found: Found) -> None:
        """Supersede the recoverers that died; end their attempts where the runs go on.

        Raises:
            SpanctlError: The database could not be read or written.
        """
        judge = found.owners.judge
        mine = [one for one in judge.executors.values() if one.root == ROOT]
        dead = [one for one in mine if judge.of(one).verdict.is_dead]
        if dead:
            executors.supersede(self.database, dead, by=self._enrolled())
        alive = {one.executor_id for one in mine} - {one.executor_id for one in dead}
        for attempt in found.attempts:
            if attempt.executor not in alive:  # it had handed the run over
                recoveries.end(self.database, attempt, Ending.RERUN)
        open_ones = filter(None, (one.open_attempt for one in found.candidates))
        busy = {attempt.executor for attempt in open_ones}
        predecessors.forget(self.database, [one for one in dead if one.executor_id not in busy])

    def recover(self, one: Candidate) -> Recovered:
        """End a flow run that died, and have it run again if that is asked for.

        Raises:
            SupersededError: This recoverer itself counts as dead.
            SpanctlError: Prefect or a database did not answer, or refused; the next look goes on.
        """
        me = self._enrolled()
        if not one.is_to_be_rerun:
            if one.death is None or self._has_gone_on(one):
                return _passed(one, "it has ended, or goes on")
            self._settle(one, me)
            return planned(one, self._policy)
        attempt = self._attempt(one, me)
        if attempt is None:
            return _passed(one, "another recoverer has it")
        if self._has_gone_on(one):
            return self._void(one, attempt)
        self._settle(one, me)
        return self._rerun(one, attempt, me)

    def _rerun(self, one: Candidate, attempt: Attempt, me: str) -> Recovered:
        left = None if self._policy.force else self._outside(one)
        if left is not None:
            hint = f"look, then: spanctl runs recover {one.run.id} --rerun --force"
            return self._give_up(attempt, _alarm(one, Action.LEFT, left, hint))
        plan = planned(one, self._policy)
        if plan.action is Action.EXHAUSTED:
            return self._give_up(attempt, plan)
        # Frozen until now, it may count as dead, and another one be at it.
        executors.beat(self.database, (me,), timeout=_TIMEOUT)
        now = self.api.flow_run(one.run.id)
        if not _is_crashed(now) or (now.labels.get(SETTLED_LABEL) and not one.is_insisted):
            return self._void(one, attempt)
        try:
            self._hand_over(now, attempt, one.note)
        except ConflictError as error:
            return self._give_up(attempt, _alarm(one, Action.LEFT, error.message, error.hint))
        recoveries.end(self.database, attempt, Ending.RERUN)
        return replace(plan, attempt=attempt.number, hint=f"spanctl runs watch {one.run.id}")

    def _hand_over(self, run: FlowRun, attempt: Attempt, note: str) -> None:
        if run.deployment_id is not None:
            why = f"run again by spanctl runs recover, attempt {attempt.number}: {note}"
            self.api.retry(run, why)
            return
        log = self._resume(run)
        deadline = monotonic() + _CLAIMED_WITHIN
        while _is_crashed(self.api.flow_run(run.id)):
            if monotonic() > deadline:
                msg = f"the process that was to go on with flow run {run.id} did not begin"
                raise ConflictError(msg, hint=f"see {log}", flow_run=run.id)
            time.sleep(_POLL)

    def _give_up(self, attempt: Attempt, told: Recovered) -> Recovered:
        """End an attempt after which nobody runs the run again but a person."""
        self.api.add_labels(told.run.id, {SETTLED_LABEL: told.action.value})
        ending = Ending.EXHAUSTED if told.action is Action.EXHAUSTED else Ending.LEFT
        recoveries.end(self.database, attempt, ending)
        return told

    def _void(self, one: Candidate, attempt: Attempt) -> Recovered:
        # Whoever died at this attempt may have handed it over before.
        ending = Ending.RERUN if one.open_attempt is not None else Ending.VOID
        recoveries.end(self.database, attempt, ending)
        return _passed(one, "it goes on, or somebody has ended it")

    def _has_gone_on(self, one: Candidate) -> bool:
        """Tell whether a run is in another state than the one in which it was found dead."""
        now = self.api.flow_run(one.run.id)
        if _is_crashed(now):  # as another recoverer, or its worker, ended it
            return False
        if one.death is None or now.state != one.run.state:
            return True
        others = self._others(one.run)
        return any(deaths.is_executed(other, self.api, now) for other in others)

    def _attempt(self, one: Candidate, me: str) -> Attempt | None:
        """Return the attempt that is this recoverer's now; None where another one has it."""
        before = one.open_attempt
        if before is None:
            number = one.attempts[-1].number + 1 if one.attempts else 1
            if not recoveries.begin(self.database, one.run.id, number, me):
                return None
            made = recoveries.read(self.database, one.run.id)
            return next(attempt for attempt in made if attempt.number == number)
        if before.executor == me:
            return before
        (holder,) = executors.read(self.database, [before.executor]) or (None,)
        if holder is not None and holder.superseded_at is None:
            return None  # it is superseded where it is found dead
        return before if recoveries.take_over(self.database, before, me) else None

    def _settle(self, one: Candidate, me: str) -> None:
        databases = [self.database, *self._others(one.run)]
        if one.death is not None:
            deaths.end(self.api, databases, one.death, by=me)
            return
        # Ended by its worker, it may have left something open all the same.
        for database in databases:
            predecessors.settle(database, deaths.root_of(one.run), one.run.id, by=me)

    def _others(self, run: FlowRun) -> "list[Database]":
        prefix = f"{LEDGER_LABEL}."
        mine = str(self.database.target.database)
        names = [name.removeprefix(prefix) for name in run.labels if name.startswith(prefix)]
        return [self._reach(name) for name in sorted(names) if name != mine]

    def _outside(self, one: Candidate) -> str | None:
        """Return what a run has begun outside of transactions, and whose end isn't known."""
        for database in (self.database, *self._others(one.run)):
            entries = receipts.of_run(database, one.run.id)
            for txn_id, found in outside(database, entries).items():
                if found.phase is Phase.UNKNOWN:
                    kind = found.kind.value.replace("_", " ")
                    return f"its {kind} was started by transaction {txn_id}, its end is not known"
        return None

    def _enrolled(self) -> str:
        """Return this recoverer's id, once others can tell whether it is alive."""
        if self._executor is None:
            made = str(uuid.uuid4())
            interval = self.database.target.heartbeat_interval
            mine = Enrolment(executor_id=made, root=ROOT, deadline=_TIMEOUT, interval=interval)
            executors.enrol(self.database, mine)
            heart.start(made, partial(_beat, self.database, made), interval)
            self._executor = made
        return self._executor


def _beat(database: "Database", executor: str) -> bool:
    executors.beat(database, (executor,), timeout=leases.PARTING)
    return True


def _is_crashed(run: FlowRun) -> bool:
    return run.state is not None and run.state.type is StateType.CRASHED


def _passed(one: Candidate, note: str) -> Recovered:
    return Recovered(run=one.run, action=Action.PASSED, note=note)


def planned(one: Candidate, policy: Policy) -> Recovered:
    """Return what is to be done about a flow run that died, as far as can be told beforehand."""
    if not one.is_to_be_rerun:
        note = f"{one.note}; how it is run isn't known" if one.is_asked_for else one.note
        return Recovered(run=one.run, action=Action.ENDED, note=note)
    if one.made >= policy.attempts:
        again = f"{one.made} time{'' if one.made == 1 else 's'}"
        note = f"it was run again {again}, and died again: {one.note}"
        return _alarm(one, Action.EXHAUSTED, note, f"look: spanctl runs show {one.run.id}")
    return Recovered(run=one.run, action=Action.RERUN, note=one.note)


def _alarm(one: Candidate, action: Action, note: str, hint: str) -> Recovered:
    return Recovered(run=one.run, action=action, note=note, hint=hint)
