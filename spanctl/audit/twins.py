"""What was typed before: runs of one person, database and digest that did not end by themselves.

A run of SQL keeps the digest of what was typed in its first lease, and takes it away once it has
told what came of it. So what still has it was cut off: its process was killed, could not find out
what came of it, or could not reach the database at its end.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from spanctl.audit.outside import Outside, outside
from spanctl.ledger.phases import AT_LEAST_ONCE, Phase
from spanctl.ledger.receipt import EntryKind, Outcome, StatementKind
from spanctl.spanner import fence, leases, limbo, liveness
from spanctl.spanner.client import Database
from spanctl.spanner.fence import Standing
from spanctl.spanner.limbo import OpenLease
from spanctl.spanner.liveness import Judge, Judged, Verdict

_OUTCOMES: Final = {
    EntryKind.COMMITTED: Outcome.COMMITTED,
    EntryKind.FENCED: Outcome.NOT_COMMITTED,
}


@dataclass(frozen=True, slots=True)
class Twin:
    """A run that did the same and did not end by itself.

    Attributes:
        lease: Its first lease.
        judged: How the executor is that took it.
        stands: Where its operations stand.
        outside: What its pair of entries tells of DDL or partitioned DML that was started; None
            for what is in a transaction.
    """

    lease: OpenLease
    judged: Judged
    stands: tuple[Standing, ...]
    outside: Outside | None = None

    @property
    def is_alive(self) -> bool:
        """Whether its process is known to run: a heartbeat from before it died is no proof."""
        return self.judged.verdict is Verdict.ALIVE and self.judged.is_seen

    @property
    def name(self) -> str:
        """What it is called: its root flow run's id, or else its operations' root."""
        return self.lease.root_run or self.lease.keys[0].root

    @property
    def txn_id(self) -> str:
        """The txn ID of its first operation, in the epoch that counts."""
        return self.stands[0].call.txn_id

    @property
    def outcome(self) -> str:
        """What came of that; UNKNOWN while it has no receipt.

        That the entries of DDL and partitioned DML have committed says nothing of the rest.
        """
        if self.outside is not None:
            return AT_LEAST_ONCE
        entry = self.stands[0].entry
        return Outcome.UNKNOWN if entry is None else _OUTCOMES[entry.kind]

    @property
    def is_resumable(self) -> bool:
        """Whether it can be gone on with: DDL that was started is never started again."""
        return self.outside is None or self.outside.kind is not StatementKind.DDL

    @property
    def told(self) -> str:
        """How its executor is, and what came of what it did, in a few words."""
        if self.is_alive:
            how = "goes on"
        else:
            how = "did not note its end in its lease" if self._has_ended else "never ended"
        return f"{how}, {self.judged.evidence}: {self._told_outcome}"

    @property
    def _has_ended(self) -> bool:
        """Whether it is known what came of it."""
        if self.outside is not None:
            return self.outside.phase is not Phase.UNKNOWN
        return self.outcome == Outcome.COMMITTED

    @property
    def _told_outcome(self) -> str:
        if self.outside is None:
            return f"transaction {self.txn_id} is {self.outcome}"
        kind = self.outside.kind.value.replace("_", " ")
        if self.outside.phase is Phase.UNKNOWN:
            return f"its {kind} was started by transaction {self.txn_id}, its end is not known"
        return f"its {kind} {self.outside.phase}, as transaction {self.outside.pair} says"


def find(database: Database, digests: Iterable[str], since: datetime) -> list[Twin]:
    """Return the runs that were typed alike, the newest first.

    Args:
        database: Where.
        digests: What was typed, under each name that the person goes by.
        since: How far to look back.

    Raises:
        SpanctlError: The database could not be read.
    """
    found: list[Twin] = []
    alike = limbo.typed(database, list(dict.fromkeys(digests)), since)
    judge = liveness.judge(database) if alike else Judge()
    for lease in alike:
        if lease.keys and lease.root_run not in {one.lease.root_run for one in found}:
            stands = tuple(fence.standings(database, lease.keys).values())
            entry = stands[0].entry
            pair = outside(database, [entry]) if entry is not None else {}
            noted = pair.get(stands[0].call.txn_id)
            found.append(Twin(lease, judge.of_lease(lease), stands, noted))
    return found


def dismiss(database: Database, twins: Sequence[Twin]) -> None:
    """Forget that they were cut off, once a person has dealt with them.

    What has an outcome is closed, too; what has none stays listed as it is.

    Raises:
        SpanctlError: The database could not be written.
    """
    for twin in twins:
        settled = all(stands.entry is not None for stands in twin.stands)
        leases.forget(database, twin.lease.intent_id, close=settled and not twin.is_alive)
