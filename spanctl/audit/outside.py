"""How DDL and partitioned DML ended: the two entries of each, joined."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spanctl.ledger.keys import txn_id
from spanctl.ledger.phases import Phase, end_key, noted
from spanctl.ledger.receipt import EntryKind, Receipt, StatementKind
from spanctl.spanner import receipts
from spanctl.spanner.client import Database

_EPOCHS: Final = 4
"""So many times may the entry that ends a pair have been fenced and begun anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """DDL or partitioned DML, as one entry of its pair tells of it.

    Attributes:
        kind: Which of the two.
        said: What this entry says.
        phase: How it ended, as far as the ledger knows; UNKNOWN where no entry says.
        status: The gRPC status with which it failed; None when it did not.
        pair: The txn ID of the other entry; None when there is none.
        operation: The name of DDL's long-running operation; None where no entry says.
        assumed: Whether that it may be applied twice was assumed, and not checked.
    """

    kind: StatementKind
    said: Phase
    phase: Phase
    status: str | None = None
    pair: str | None = None
    operation: str | None = None
    assumed: bool = False

    @property
    def words(self) -> str:
        """How it ended: ``finished``, ``failed``, or ``started, end unknown``."""
        return "started, end unknown" if self.phase is Phase.UNKNOWN else self.phase.value

    @property
    def words_here(self) -> str:
        """What this entry says, beside the other one in a list."""
        return self.said.value if self.pair and self.said is Phase.STARTED else self.words


def outside(database: Database, entries: Iterable[Receipt]) -> dict[str, Outside]:
    """Return what is known of the DDL and partitioned DML among these entries, by txn ID.

    Raises:
        SpanctlError: The database could not be read.
    """
    pairs = [(entry, said) for entry in entries if (said := noted(entry))]
    started = [entry for entry, said in pairs if said.phase is Phase.STARTED]
    ends = _ends(database, started) if started else {}
    found = {}
    for entry, said in pairs:
        end = ends.get(entry.txn_id)
        last = (noted(end) if end else None) or said
        known = last.phase in {Phase.FINISHED, Phase.FAILED}
        found[entry.txn_id] = Outside(
            kind=said.kind,
            said=said.phase,
            phase=last.phase if known else Phase.UNKNOWN,
            status=last.status,
            pair=end.txn_id if end else said.started,
            operation=last.operation,
            assumed=said.assumed,
        )
    return found


def _ends(database: Database, started: list[Receipt]) -> dict[str, Receipt]:
    """Return the entry that ended each of these, by the txn ID of the one that began it."""
    wanted = {}
    for entry in started:
        if key := end_key(entry):
            wanted.update({txn_id(key, epoch): entry.txn_id for epoch in range(_EPOCHS)})
    found = receipts.get_many(database, wanted).values()
    return {wanted[one.txn_id]: one for one in found if one.kind is EntryKind.COMMITTED}
