"""What there is to recover: flow runs that died, and what dead executors hold besides."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from spanctl.audit.owners import DeadRun, Owners, is_of
from spanctl.clock import now
from spanctl.errors import UnreachableError
from spanctl.invocation import RECOVER_TAG, SETTLED_LABEL
from spanctl.orchestration.filerun import FileRun
from spanctl.orchestration.model import FlowRun, StateType
from spanctl.spanner import limbo, liveness, recoveries
from spanctl.spanner.liveness import Verdict
from spanctl.spanner.recoveries import Attempt, Ending

if TYPE_CHECKING:
    from spanctl.orchestration.api import PrefectApi
    from spanctl.spanner.client import Database
    from spanctl.spanner.limbo import OpenLease

LOOKBACK: Final = timedelta(hours=24)
"""How long ago a run may have crashed that a worker has ended, and is still run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be recovered.

    Attributes:
        only: The flow runs; all when empty.
        rerun: Whether all of them are to be run again, or only what asks for it.
    """

    only: Collection[str] = ()
    rerun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A flow run that died.

    Attributes:
        run: The run, as Prefect tells it.
        death: How it died, where it has not ended; None where it ended as Crashed.
        attempts: The attempts to run it again so far.
        is_insisted: Whether a person wants it run again, though nothing else asks for it.
    """

    run: FlowRun
    death: DeadRun | None
    attempts: tuple[Attempt, ...]
    is_insisted: bool = False

    @property
    def note(self) -> str:
        """How it is known that it died, in a few words."""
        if self.death is not None:
            return self.death.note
        state = self.run.state
        return f"Prefect says {state.name}: {state.message}" if state else "it has no state"

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that somebody has begun and not ended."""
        last = self.attempts[-1] if self.attempts else None
        return last if last is not None and last.ended_at is None else None

    @property
    def made(self) -> int:
        """How often it was run again since a person last saw to it."""
        ended = [one.ending for one in self.attempts if one.ending not in {None, Ending.VOID}]
        count = 0
        while ended and ended.pop() is Ending.RERUN:
            count += 1
        return count

    @property
    def is_asked_for(self) -> bool:
        """Whether it is to be run again."""
        if self.is_insisted:
            return True
        if self.run.labels.get(SETTLED_LABEL):
            return False
        return RECOVER_TAG in self.run.tags or self.open_attempt is not None

    @property
    def is_to_be_rerun(self) -> bool:
        """Whether it is to be run again, and it is known how."""
        is_known = self.run.deployment_id or FileRun.from_labels(self.run.labels)
        state = self.run.state
        is_cancelled = state is not None and state.type is StateType.CANCELLING
        return self.is_asked_for and bool(is_known) and not is_cancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look has found.

    Attributes:
        candidates: Flow runs that died.
        attempts: Attempts without an end for runs that are none of these: they go on, or ended.
        leases: Leases of dead executors that belong to none of these.
        held: All open leases.
        silent: How many executors are silent, and may yet count as dead.
        owners: Who owns what.
    """

    candidates: tuple[Candidate, ...]
    attempts: tuple[Attempt, ...]
    leases: "tuple[OpenLease, ...]"
    held: "tuple[OpenLease, ...]"
    silent: int
    owners: Owners


def look(database: "Database", api: "PrefectApi", wanted: Wanted, *, observe: bool = True) -> Found:
    """Look for what died.

    Args:
        database: The database with the ledger.
        api: Prefect.
        wanted: What is wanted of it.
        observe: Whether to write down who is silent: the next look may count them as dead.

    Raises:
        UnreachableError: Prefect or Spanner did not answer.
        SpanctlError: The database could not be read or written.
    """
    held = tuple(limbo.open_leases(database))
    name = str(database.target.database)
    judge = liveness.observe(database) if observe else liveness.judge(database)
    owners = Owners(api, held, judge, database=name)
    owners.ask()
    if owners.trouble:
        msg = f"which flow runs have ended isn't known: {owners.trouble}"
        raise UnreachableError(msg, hint="run: spanctl doctor")
    begun = recoveries.unended(database)
    died = {one.run.id: one for one in owners.dead_runs()}
    runs = {name: one.run for name, one in died.items()}
    crashed = _crashed(api, owners, {one.flow_run for one in begun}, wanted.only)
    runs |= {run.id: run for run in crashed if run.id not in runs}
    found = [
        Candidate(
            run=run,
            death=died.get(run.id),
            attempts=tuple(recoveries.read(database, run.id)),
            is_insisted=wanted.rerun,
        )
        for run in runs.values()
        if not wanted.only or run.id in wanted.only
    ]
    dead = [one for one in held if owners.of_lease(one).verdict.is_dead]
    others = [one for one in dead if one.root_run not in runs and not wanted.only]
    verdicts = [owners.judge.of(one).verdict for one in owners.judge.silent()]
    return Found(
        candidates=tuple(one for one in found if one.death or one.is_asked_for),
        attempts=tuple(one for one in begun if one.flow_run not in runs),
        leases=tuple(others),
        held=held,
        silent=verdicts.count(Verdict.NOT_KNOWN),
        owners=owners,
    )


def _crashed(
    api: "PrefectApi", owners: Owners, begun: Collection[str], only: Collection[str]
) -> list[FlowRun]:
    """Return the runs that ended as Crashed, are to go on by themselves, and nobody executes."""
    tagged = list(api.crashed_runs(RECOVER_TAG, now() - LOOKBACK))
    named = api.flow_runs(sorted({*begun, *only})) if begun or only else []
    found = {run.id: run for run in (*tagged, *named) if _is_crashed(run)}
    return [
        run
        for run in found.values()
        # One of a file that ended by itself was ended by whoever ran it.
        if (run.deployment_id is not None or run.id in {*begun, *only})
        and is_of(run, owners.database)
        and not owners.is_executed(run)
    ]


def _is_crashed(run: FlowRun) -> bool:
    return run.state is not None and run.state.type is StateType.CRASHED
