"""What was typed before: runs of one person, database and digest that did not end by themselves.

A run of SQL keeps the digest of what was typed in its first lease, and takes it away when it ends.
So what still has it was cut off: its process was killed, or could not find out what came of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from spanctl.audit.processes import Process, of_lease
from spanctl.ledger.receipt import EntryKind, Outcome
from spanctl.spanner import fence, leases, limbo
from spanctl.spanner.client import Database
from spanctl.spanner.fence import Standing
from spanctl.spanner.limbo import OpenLease

_OUTCOMES: Final = {
    EntryKind.COMMITTED: Outcome.COMMITTED,
    EntryKind.FENCED: Outcome.NOT_COMMITTED,
}


@dataclass(frozen=True, slots=True)
class Twin:
    """A run that did the same and did not end by itself.

    Attributes:
        lease: Its first lease.
        process: How the process is that took it.
        stands: Where its operations stand.
    """

    lease: OpenLease
    process: Process
    stands: tuple[Standing, ...]

    @property
    def is_alive(self) -> bool:
        """Whether its process is known to run."""
        return self.process is Process.RUNNING

    @property
    def name(self) -> str:
        """What it is called: its root flow run's id, or else its operations' root."""
        return self.lease.root_run or self.lease.keys[0].root

    @property
    def txn_id(self) -> str:
        """The txn ID of its first operation, in the epoch that counts."""
        return self.stands[0].call.txn_id

    @property
    def outcome(self) -> Outcome:
        """What came of that; UNKNOWN while it has no receipt."""
        entry = self.stands[0].entry
        return Outcome.UNKNOWN if entry is None else _OUTCOMES[entry.kind]

    @property
    def told(self) -> str:
        """How its process and its transaction are, in a few words."""
        where = f"process {self.lease.pid} on {self.lease.host}"
        how = {
            Process.RUNNING: f"goes on in {where}",
            Process.GONE: f"never ended, {where} is gone",
            Process.ELSEWHERE: f"never ended, {where} can't be looked at from here",
        }
        return f"{how[self.process]}: transaction {self.txn_id} is {self.outcome}"


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
    for lease in limbo.typed(database, list(dict.fromkeys(digests)), since):
        if lease.keys and lease.root_run not in {one.lease.root_run for one in found}:
            stands = tuple(fence.standings(database, lease.keys).values())
            process = of_lease(lease)
            found.append(Twin(lease, process, stands))
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
