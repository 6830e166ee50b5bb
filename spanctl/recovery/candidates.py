"""What there is to recover: flow runs that died, and what dead executors hold besides."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from spanctl.audit.owners import DeadRun, Owners, is_of
from spanctl.clock import now
from spanctl.errors import UnreachableError
from spanctl.invocation import RECOVER_TAG
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
_SKEW: Final = timedelta(seconds=1)
_OVER: Final = frozenset({Ending.LEFT, Ending.EXHAUSTED, Ending.DECLINED})
"""What ends an attempt after which nobody runs the run again but a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A flow run that died.

    Attributes:
        run: The run, as Prefect tells it.
        death: How it died, where it has not ended; None where it ended as Crashed.
        attempts: The attempts to run it again so far.
        is_asked_for: Whether it is to be run again.
    """

    run: FlowRun
    death: DeadRun | None
    attempts: tuple[Attempt, ...]
    is_asked_for: bool

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
        """How often it was run again."""
        return sum(one.ending is Ending.RERUN for one in self.attempts)

    @property
    def is_to_be_rerun(self) -> bool:
        """Whether it is to be run again, and it is known how."""
        is_known = self.run.deployment_id or FileRun.from_labels(self.run.labels)
        return self.is_asked_for and bool(is_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a look has found.

    Attributes:
        candidates: Flow runs that died.
        leases: Leases of dead executors that belong to none of these.
        held: All open leases.
        silent: How many executors are silent, and may yet count as dead.
        owners: Who owns what.
    """

    candidates: tuple[Candidate, ...]
    leases: "tuple[OpenLease, ...]"
    held: "tuple[OpenLease, ...]"
    silent: int
    owners: Owners


def look(
    database: "Database", api: "PrefectApi", *, rerun: bool = False, only: Collection[str] = ()
) -> Found:
    """Look for what died, and write down who is silent: the next look may count them as dead.

    Args:
        database: The database with the ledger.
        api: Prefect.
        rerun: Whether all of it is to be run again, or only what asks for it.
        only: The root flow runs that are wanted; all when empty.

    Raises:
        UnreachableError: Prefect or Spanner did not answer.
        SpanctlError: The database could not be read or written.
    """
    held = tuple(limbo.open_leases(database))
    name = str(database.target.database)
    owners = Owners(api, held, liveness.observe(database), database=name)
    owners.ask()
    if owners.trouble:
        msg = f"which flow runs have ended isn't known: {owners.trouble}"
        raise UnreachableError(msg, hint="run: spanctl doctor")
    died = {one.run.id: one for one in owners.dead_runs()}
    runs = {name: one.run for name, one in died.items()}
    runs |= {run.id: run for run in _crashed(api, owners, only) if run.id not in runs}
    found = []
    for run in runs.values():
        if only and run.id not in only:
            continue
        attempts = tuple(recoveries.read(database, run.id))
        death = died.get(run.id)
        if death is None and _is_dealt_with(run, attempts) and run.id not in only:
            continue
        wants = rerun or RECOVER_TAG in run.tags
        found.append(Candidate(run=run, death=death, attempts=attempts, is_asked_for=wants))
    dead = [one for one in held if owners.of_lease(one).verdict.is_dead]
    others = [one for one in dead if one.root_run not in runs and not only]
    verdicts = [owners.judge.of(one).verdict for one in owners.judge.silent()]
    return Found(
        candidates=tuple(found),
        leases=tuple(others),
        held=held,
        silent=verdicts.count(Verdict.NOT_KNOWN),
        owners=owners,
    )


def _crashed(api: "PrefectApi", owners: Owners, only: Collection[str]) -> list[FlowRun]:
    """Return the runs that their workers have ended as Crashed, and that nobody executes."""
    tagged = list(api.crashed_roots(RECOVER_TAG, now() - LOOKBACK))
    named = [run for run in api.flow_runs(sorted(only)) if _is_crashed(run)] if only else []
    found = {run.id: run for run in (*tagged, *named)}
    return [
        run
        for run in found.values()
        # One of a file that ended by itself was ended by whoever ran it.
        if (run.deployment_id is not None or run.id in only)
        and is_of(run, owners.database)
        and not owners.is_executed(run)
    ]


def _is_crashed(run: FlowRun) -> bool:
    return run.state is not None and run.state.type is StateType.CRASHED


def _is_dealt_with(run: FlowRun, attempts: tuple[Attempt, ...]) -> bool:
    """Tell whether this end of a run was dealt with before: it is not run again by itself."""
    last = attempts[-1] if attempts else None
    if last is None or last.ended_at is None or last.ending not in _OVER or run.state is None:
        return False
    return run.state.timestamp <= last.ended_at + _SKEW
