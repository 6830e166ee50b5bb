"""What a fence means for its operation now: closed, gone on, or committed since."""

from dataclasses import dataclass
from enum import StrEnum

from spanctl.ledger import fences
from spanctl.ledger.fences import Author
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Receipt
from spanctl.spanner import fence
from spanctl.spanner.client import Database


class Now(StrEnum):
    """Where a fenced operation stands."""

    CLOSED = "closed"
    OPEN = "open"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class Fencing:
    """A fence, and what came after it.

    Attributes:
        author: Who placed it.
        now: Where its operation stands.
        txn_id: The txn ID that counts for the operation now.
        root_run: The root flow run's id, if there is one.
    """

    author: Author
    now: Now
    txn_id: str
    root_run: str | None

    @property
    def words(self) -> str:
        """What it means, in a sentence."""
        by = "by hand" if self.author is Author.OPERATOR else "by its own executor"
        after = {
            Now.CLOSED: "the operation is closed: it commits only once it is reopened",
            Now.OPEN: f"the operation may go on as {self.txn_id}",
            Now.COMMITTED: f"the operation went on, and is committed as {self.txn_id}",
        }
        return f"Fenced {by}: this never commits; {after[self.now]}."

    @property
    def step(self) -> str:
        """The command to type next."""
        if self.now is Now.CLOSED:
            return f"spanctl txn reopen {self.txn_id} --reason WHY"
        if self.now is Now.COMMITTED:
            return f"spanctl audit {self.txn_id}"
        # What was reopened is leased again only when somebody runs it.
        reopened = self.author is Author.OPERATOR and self.root_run
        return f"spanctl runs show {self.root_run}" if reopened else "spanctl txn list"


def fencing(database: Database, entry: Receipt) -> Fencing | None:
    """Return what a fence means now; None for an entry that is none.

    Raises:
        SpanctlError: The database could not be read.
    """
    if entry.kind is not EntryKind.FENCED:
        return None
    author = fences.author_of(entry)
    if not fence.is_passed(database, entry):
        return Fencing(author, Now.CLOSED, entry.txn_id, entry.provenance.root_run)
    stands = fence.standing(database, OperationKey.parse(entry.operation_key))
    now = Now.OPEN if stands.entry is None else Now.COMMITTED
    if stands.is_closed:
        now = Now.CLOSED
    return Fencing(author, now, stands.call.txn_id, entry.provenance.root_run)
