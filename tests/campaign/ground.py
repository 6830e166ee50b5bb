"""Where the transaction campaigns happen: an emulator, a ledger, one write, and the truth."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Self

from google.cloud.spanner_v1 import KeyRange, param_types

from spanctl.audit import settling
from spanctl.errors import OutcomeUnknownError, SpanctlError
from spanctl.ledger.keys import OperationKey, txn_id
from spanctl.ledger.receipt import Outcome, Provenance
from spanctl.spanner import schema
from spanctl.spanner.applying import apply, mutation
from spanctl.spanner.client import Database
from spanctl.spanner.keysets import KeySet
from spanctl.spanner.operation import TransactionOptions
from tests.campaign.model import Stage, Verdict, World
from tests.faults import raw
from tests.faults.emulator import Emulator

STEP: Final = "step"
PROMPT: Final = TransactionOptions(deadline=15.0, rpc_timeout=2.0, resolve_timeout=10.0)
OBLIGING: Final = "--abort_current_transaction_probability=100"
"""A new transaction wins at once over one that a death has orphaned."""

_DDL = (
    "CREATE TABLE t (k INT64 NOT NULL, v INT64 NOT NULL) PRIMARY KEY (k)",
    "CREATE TABLE events (k INT64 NOT NULL, id STRING(36) NOT NULL) PRIMARY KEY (k, id)",
)
_SELECT = "SELECT v FROM t WHERE k = @k"
_UPDATE = "UPDATE t SET v = v + 1 WHERE k = @k"
_GUARD = 90.0
_EPOCHS = 8
"""An executor that fences its own attempt goes on in the next epoch."""


class OwnError(Exception):
    """What a body raises by itself."""


@dataclass(frozen=True, slots=True)
class _Stage:
    address: str
    open_lane: Callable[[str], contextlib.AbstractContextManager[World]]

    def lane(self) -> contextlib.AbstractContextManager[World]:
        return self.open_lane(self.address)


@contextlib.contextmanager
def stage(
    open_lane: Callable[[str], contextlib.AbstractContextManager[World]], *flags: str
) -> Iterator[Stage]:
    """Open an emulator with these flags, which lanes share; each is opened with its address."""
    with Emulator(*flags) as emulator:
        yield _Stage(emulator.address, open_lane)


@contextlib.contextmanager
def ledger(address: str) -> Iterator[str]:
    """Make a database with a ledger, and drop it: an emulator holds a hundred at most."""
    name = raw.create_database(address, _DDL)
    try:
        with Database(raw.target(address, name)) as database:
            schema.install(database, ["t", "events"])
        yield name
    finally:
        raw.drop_database(address, name)


# -- the write: it counts row k up once, and leaves one event of its own for each application


def count_up(txn: Any, k: int) -> None:
    """Write with statements and a mutation."""
    txn.execute_sql(_SELECT, {"k": k})
    txn.execute_update(_UPDATE, {"k": k})
    _note(txn, k)


def count_up_after_read(txn: Any, k: int) -> None:
    """Write what was read by key."""
    txn.execute_sql("SELECT 1")
    ((value,),) = txn.read("t", ["v"], KeySet(keys=[[k]]))
    txn.update("t", ["k", "v"], [[k, value + 1]])
    _note(txn, k)


def mutate(txn: Any, k: int) -> None:
    """Write without a statement: the transaction is begun by its own RPC. The row stays."""
    _note(txn, k)


def fail_late(txn: Any, k: int) -> None:
    """Raise after the statements."""
    count_up(txn, k)
    raise OwnError


def count_up_naively(txn: Any, k: int) -> None:
    """The first of these for Google's own transaction, which doesn't infer types."""
    types = {"k": param_types.INT64}
    list(txn.execute_sql(_SELECT, {"k": k}, types))
    txn.execute_update(_UPDATE, {"k": k}, types)
    _note(txn, k)


def _note(txn: Any, k: int) -> None:
    txn.insert("events", ["k", "id"], [[k, str(uuid.uuid4())]])


# -- the truth


@dataclass(frozen=True, slots=True)
class Held:
    """What the database holds of one operation."""

    value: int
    events: int
    receipts: int


class Truth:
    """The database past every proxy, on a channel of its own."""

    def __init__(self, address: str, name: str) -> None:
        """Remember where it is."""
        self.database = Database(raw.target(address, name))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def prepare(self, *keys: int) -> None:
        """Put the rows there that are counted up: each of them once in its life."""
        rows = [mutation("insert", "t", {"k": k, "v": 0}) for k in keys]
        apply(self.database, rows, timeout=_GUARD, doing="rows were prepared")

    def of(self, k: int, root: str, call: int | str = 0) -> Held:
        """Read what became of an operation."""
        key = OperationKey(root, (), STEP, call)
        return self.held(k, [txn_id(key, epoch) for epoch in range(_EPOCHS)])

    def held(self, k: int, ids: Sequence[str]) -> Held:
        """Read what there is of a row, its events, and of receipts under these txn IDs."""
        read = self.database.read
        ((value,),) = read("t", ["v"], KeySet(keys=[[k]]))
        span = KeyRange(start_closed=[k], end_closed=[k])
        events = list(read("events", ["id"], KeySet(ranges=[span])))
        rows = read("spanctl_receipts", ["kind"], KeySet(keys=[[one] for one in ids]))
        return Held(value, len(events), sum(1 for (kind,) in rows if kind == "COMMITTED"))


# -- what was reported, and the judge


def resolve(truth: Truth) -> tuple[dict[OperationKey, str], int]:
    """Make everything final, as ``txn resolve --all`` does.

    Returns what it said of each operation, and how many operations and leases stay open.
    """
    found = settling.survey(truth.database, None)
    settled = [
        settling.settle(truth.database, one.operation.key, one.owned, provenance=Provenance())
        for one in found.operations
    ]
    settling.tidy(truth.database, found)
    left = settling.survey(truth.database, None)
    return {one.key: SAID[one.outcome] for one in settled}, len(left.operations) + len(left.leases)


class Report:
    """What a call reported of its outcome."""

    COMMITTED = "committed"
    NOT_COMMITTED = "not committed"
    UNKNOWN = "unknown"
    HUNG = "hung"
    NOTHING = "nothing"
    """The process died before it could."""


SAID: Final = {
    Outcome.COMMITTED: Report.COMMITTED,
    Outcome.NOT_COMMITTED: Report.NOT_COMMITTED,
    Outcome.UNKNOWN: Report.UNKNOWN,
}


def reported(call: Callable[[], Any]) -> tuple[str, BaseException | None]:
    """Make a call and return what it reports; one that doesn't end hangs."""
    ended: list[tuple[str, BaseException | None]] = []

    def work() -> None:
        try:
            call()
            ended.append((Report.COMMITTED, None))
        except OutcomeUnknownError as error:
            ended.append((Report.UNKNOWN, error))
        except (SpanctlError, OwnError) as error:
            ended.append((Report.NOT_COMMITTED, error))
        except BaseException as error:  # noqa: BLE001 - of Google's client anything may come
            ended.append((Report.NOT_COMMITTED, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_GUARD)
    return ended[0] if ended else (Report.HUNG, None)


def judge(said: str, held: Held, *, ours: bool = True, counts: bool = True) -> Verdict:
    """Compare a report with what the database holds.

    Args:
        said: The report.
        held: The truth.
        ours: Whether there should be a receipt.
        counts: Whether the body counts the row up.
    """
    applied = held.events
    torn = counts and held.value != applied
    unproven = ours and held.receipts != min(applied, 1)
    denied = said == Report.NOT_COMMITTED and applied > 0
    bad = Verdict(
        wrong=int(torn or unproven or denied),
        duplicate=max(0, applied - 1),
        lost=int(said == Report.COMMITTED and applied == 0),
        unresolved=int(said in {Report.UNKNOWN, Report.HUNG}),
    )
    return replace(bad, why=f"reported {said}, held {held}") if bad.bad else bad
