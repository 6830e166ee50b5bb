"""The database of the flow tests: accounts, events, and what is looked at after a flow."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spanctl.flows import transaction
from spanctl.ledger.receipt import Receipt
from spanctl.spanner import receipts
from spanctl.spanner.client import Database, Target

DDL = (
    "CREATE TABLE accounts (id STRING(36) NOT NULL, balance INT64 NOT NULL) PRIMARY KEY (id)",
    "CREATE TABLE events (id STRING(36) NOT NULL, what STRING(MAX)) PRIMARY KEY (id)",
)


@dataclass(frozen=True)
class Bank:
    target: Target
    database: Database
    before: list[str] = field(default_factory=list)

    def balance(self, account: str = "a") -> int:
        query = "SELECT balance FROM accounts WHERE id = @id"
        return int(next(iter(self.database.query(query, {"id": account})))[0])

    def receipts(self) -> list[Receipt]:
        ids = [row[0] for row in self.database.query("SELECT txn_id FROM spanctl_receipts")]
        written = receipts.get_many(self.database, ids).values()
        return [one for one in written if one.txn_id not in self.before]

    def keys(self) -> list[str]:
        """The operation keys of all receipts, without their root, sorted."""
        return sorted(one.operation_key.split("/", 1)[1] for one in self.receipts())

    def leases(self, *, only_open: bool = False) -> int:
        query = "SELECT COUNT(*) FROM spanctl_intents WHERE prefix NOT LIKE 'ledger/%'"
        where = " AND open_since IS NOT NULL" if only_open else ""
        return int(next(iter(self.database.query(query + where)))[0])


@dataclass
class Fails:
    """Raises on its first calls: a worker lost after the commit, a result that can't be stored."""

    times: int = 1
    calls: int = 0
    error: Callable[[], Exception] = field(default=lambda: RuntimeError("lost its worker"))

    def __call__(self, *_: Any) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error()


def add(txn, account: str, cents: int) -> int:
    """Add to an account: applied twice, it shows."""
    ((balance,),) = txn.execute_sql("SELECT balance FROM accounts WHERE id = @id", {"id": account})
    txn.update("accounts", ["id", "balance"], [[account, balance + cents]])
    return balance + cents


deposit = transaction(name="deposit")(add)
