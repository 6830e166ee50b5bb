"""Operations in flight and in limbo: who owns them, and how those in limbo are made final."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spanctl.audit.owners import DeadRun, Owned, Owners
from spanctl.errors import UnreachableError
from spanctl.invocation import UPKEEP_TAG
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Outcome, Provenance, Receipt
from spanctl.orchestration.api import PrefectApi
from spanctl.spanner import executors, fence, leases, limbo, liveness, predecessors
from spanctl.spanner.client import Database
from spanctl.spanner.fence import Standing
from spanctl.spanner.limbo import Leased, OpenLease
from spanctl.spanner.liveness import Verdict

_BATCH: Final = 500


class Phase(StrEnum):
    """Where an operation without a receipt is."""

    IN_FLIGHT = "in_flight"
    LIMBO = "limbo"


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An operation that is leased and has no receipt.

    Attributes:
        operation: The operation.
        owned: Who owns it, and how that run is.
    """

    operation: Leased
    owned: Owned

    @property
    def phase(self) -> Phase:
        """In flight while an executor that is alive sees to it, else in limbo."""
        return Phase.IN_FLIGHT if self.owned.verdict is Verdict.ALIVE else Phase.LIMBO


@dataclass(frozen=True, slots=True)
class Survey:
    """What is unsettled in a ledger.

    Attributes:
        operations: The operations, the oldest first.
        leases: Every open lease, also those whose operations are all settled.
        owners: Who owns them.
        dead_runs: The root flow runs that have not ended, and that nobody executes any more; but
            for those of spanctl's own upkeep.
    """

    operations: tuple[Unsettled, ...]
    leases: tuple[OpenLease, ...]
    owners: Owners
    dead_runs: tuple[DeadRun, ...] = ()

    def owned(self, key: OperationKey) -> Owned | None:
        """Return who owns an operation; None when nobody leases it.

        That may be an executor who leased it before it was reopened: if it is alive it may still
        come to it, and leases it anew then.
        """
        for one in self.operations:
            if one.operation.key == key:
                return one.owned
        held = [lease for lease in self.leases if key in lease.keys]
        return self.owners.of_all(held) if held else None

    @property
    def limbo(self) -> tuple[Unsettled, ...]:
        """The operations that nobody who is alive sees to."""
        return tuple(one for one in self.operations if one.phase is Phase.LIMBO)


class Way(StrEnum):
    """How an operation came to its outcome."""

    FOUND = "found"
    FENCED = "fenced"
    LEFT = "left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What became of an operation that was to be resolved.

    Attributes:
        txn_id: Its txn ID, in the epoch that counts.
        key: The operation.
        outcome: COMMITTED, NOT_COMMITTED for good, or UNKNOWN where it was left as it is.
        way: How that came about.
        entry: The receipt or the fence; None where it was left.
        owned: Who owned it; None where nobody leases it.
        note: Why it was left.
    """

    txn_id: str
    key: OperationKey
    outcome: Outcome
    way: Way
    entry: Receipt | None = None
    owned: Owned | None = None
    note: str = ""


def survey(database: Database, api: PrefectApi | None) -> Survey:
    """Return what is unsettled, and who owns it.

    Args:
        database: The database with the ledger.
        api: Prefect's API; None when none is set.

    Raises:
        SchemaVersionError: The database holds no ledger.
        SpanctlError: The database could not be read. Why Prefect could not be is in ``owners``.
    """
    _ = database.ledger  # says what to do where there is none
    leased = tuple(limbo.open_leases(database))
    name = str(database.target.database)
    owners = Owners(api, leased, liveness.judge(database), database=name)
    owners.ask()
    operations = limbo.unsettled(database, leased)
    listed = tuple(Unsettled(one, owners.of(one)) for one in operations)
    dead = [one for one in owners.dead_runs() if UPKEEP_TAG not in one.run.tags]
    return Survey(listed, leased, owners, tuple(dead))


def settle(
    database: Database,
    key: OperationKey,
    owned: Owned | None,
    *,
    provenance: Provenance,
    force: bool = False,
) -> Settled:
    """Make one operation final: find its receipt, or fence it.

    Nothing is fenced whose owner may go on with it, unless forced to. Where its run was begun again
    the fence is an executor's: it closes nothing that the run may still come to.

    Raises:
        SpanctlError: The database refused, or could not be asked where the operation stands.
    """
    before = fence.standing(database, key)
    if before.entry is not None:
        return _settled(before, owned, Way.FOUND)
    if owned is not None and not owned.verdict.is_dead and not force:
        word = owned.verdict.value.replace("_", " ")
        return _left(before, owned, f"its executor is {word}: {owned.note}")
    begun_again = owned is not None and owned.is_begun_again
    author = Author.EXECUTOR if begun_again and not force else Author.OPERATOR
    try:
        after = fence.close(database, key, provenance=provenance, author=author)
    except UnreachableError as error:
        return _left(before, owned, error.message)
    fenced = after.entry is not None and after.entry.kind is EntryKind.FENCED
    return _settled(after, owned, Way.FENCED if fenced else Way.FOUND)


def _settled(stands: Standing, owned: Owned | None, way: Way) -> Settled:
    return Settled(
        txn_id=stands.call.txn_id,
        key=stands.call.key,
        outcome=Outcome.NOT_COMMITTED if stands.is_closed else Outcome.COMMITTED,
        way=way,
        entry=stands.entry,
        owned=owned,
    )


def _left(stands: Standing, owned: Owned | None, note: str) -> Settled:
    return Settled(
        txn_id=stands.call.txn_id,
        key=stands.call.key,
        outcome=Outcome.UNKNOWN,
        way=Way.LEFT,
        owned=owned,
        note=note,
    )


def supersede(database: Database, found: Survey) -> None:
    """Supersede the dead executors of what is unsettled: should one wake up, it writes nothing new.

    Raises:
        SpanctlError: The database could not be read or written.
    """
    judge = found.owners.judge
    held = {lease.executor for one in found.limbo for lease in one.operation.leases}
    held |= {one.executor.executor_id for one in found.dead_runs if one.executor}
    rows = [judge.executors[one] for one in held if one in judge.executors]
    dead = [one for one in rows if judge.of(one).verdict.is_dead]
    executors.supersede(database, dead, by="txn resolve")


def tidy(database: Database, found: Survey, *, force: bool = False) -> int:
    """Close the leases of runs that are over and of which nothing is open; return how many.

    Raises:
        SpanctlError: The database could not be read or written; leases stay open, which is
            harmless.
    """
    open_still = limbo.unsettled(database, found.leases)
    held = {lease.intent_id for one in open_still for lease in one.leases}
    finished = [
        lease.intent_id
        for lease in found.leases
        # An executor that goes on counts on the leases that it holds.
        if lease.intent_id not in held and (force or found.owners.of_lease(lease).verdict.is_dead)
    ]
    for start in range(0, len(finished), _BATCH):
        leases.close(database, finished[start : start + _BATCH])
    _prune(database, found, {one.executor for one in found.leases if one.intent_id not in finished})
    return len(finished)


def _prune(database: Database, found: Survey, holding: Collection[str]) -> None:
    """Delete the rows of dead executors that hold nothing, and whose runs are known to be over."""
    unended = {one.executor.executor_id for one in found.dead_runs if one.executor}
    judge = found.owners.judge
    rows = [
        one
        for one in judge.executors.values()
        if one.executor_id not in holding
        and one.executor_id not in unended
        and not (one.root_run and found.owners.hides_dead_runs)
        and judge.of(one).verdict.is_dead
    ]
    done = executors.supersede(database, rows, by="txn resolve")
    predecessors.forget(database, [one for one in rows if one.executor_id in done])
