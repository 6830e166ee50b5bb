"""What a receipt costs: one transaction of ours against Google's ``run_in_transaction``."""

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import receipts, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.bench.measure import Figure, Sample, interleaved, milliseconds
from tests.faults import raw
from tests.faults.emulator import Emulator

_DDL = (
    "CREATE TABLE t (k INT64 NOT NULL, v INT64, note STRING(MAX)) PRIMARY KEY (k)",
    "CREATE TABLE log (k STRING(36) NOT NULL, v INT64, note STRING(MAX)) PRIMARY KEY (k)",
)
_SQL = "UPDATE t SET v = v + @by WHERE k = @k"
_COLUMNS = ("k", "v", "note")
_GOALS = {"DML": 1.15, "mutations only": 1.25}
_BLOCK = 64


def figures(rounds: int = 300) -> Iterator[Figure]:
    """Yield DML and mutations, each with the lease held, and the first of a lease apart."""
    with _sides() as (ours, google, usual):
        run = Run(ours, "bench", provenance=Provenance(flow="bench", task="bench", reason="bench"))
        calls = _leased(run)
        yield from _compared(run, calls, (google, usual), rounds)
        firsts = [
            milliseconds(lambda number=number: Run(ours, f"first-{number}").step("one", _dml))
            for number in range(40)
        ]
        (raw_dml,) = interleaved(
            [lambda: google.run_in_transaction(_google_dml)], rounds=40, warm_up=2
        )
        yield Figure(
            name="transaction: first of a lease (DML)",
            unit="ms",
            ours=Sample(tuple(firsts)),
            theirs=raw_dml,
            against="run_in_transaction",
        )
        yield _stepped(ours, google, rounds)


@contextlib.contextmanager
def _sides() -> Iterator[tuple[Database, Any, Any]]:
    with Emulator() as emulator:
        name = raw.create_database(emulator.address, _DDL)
        with (
            Database(raw.target(emulator.address, name)) as ours,
            raw.database(emulator.address, name, checked=False) as google,
            raw.database(emulator.address, name) as usual,
        ):
            schema.install(ours, ["t", "log"])
            with google.batch() as batch:
                batch.insert("t", _COLUMNS, [[1, 0, "x"]])
            yield ours, google, usual


def _leased(run: Run) -> Iterator[Any]:
    """Yield calls whose lease is acknowledged before the clock starts."""
    for block in itertools.count():
        keys = [OperationKey(run.root, (), "step", block * _BLOCK + i) for i in range(_BLOCK)]
        yield from run.lease(keys)


def _compared(
    run: Run, calls: Iterator[Any], google: tuple[Any, Any], rounds: int
) -> Iterator[Figure]:
    best, usual = google
    for name, mine, theirs in (
        ("DML", _dml, _google_dml),
        ("mutations only", _mutate, _mutate),
    ):
        ready = [next(calls) for _ in range(rounds + 40)]
        run.execute(ready.pop(), mine)
        same = _receipted(best, theirs)
        sides: list[Callable[[], object]] = [
            lambda ready=ready, mine=mine: run.execute(ready.pop(), mine),
            lambda theirs=theirs: best.run_in_transaction(theirs),
            lambda theirs=theirs: usual.run_in_transaction(theirs),
            lambda same=same: best.run_in_transaction(same),
        ]
        ours, at_best, as_usual, receipted = interleaved(sides, rounds=rounds, warm_up=30)
        yield Figure(
            name=f"transaction with receipt: {name}",
            unit="ms",
            ours=ours,
            theirs=at_best,
            against="run_in_transaction, no session check",
            goal=_GOALS[name],
        )
        yield Figure(
            name=f"transaction with receipt: {name}",
            unit="ms",
            ours=ours,
            theirs=as_usual,
            against="run_in_transaction, as it comes",
        )
        yield Figure(
            name=f"transaction with receipt: {name}",
            unit="ms",
            ours=ours,
            theirs=receipted,
            against="run_in_transaction, which writes as long a receipt",
        )


def _receipted(google: Any, body: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a body that also inserts the newest receipt once more, under another ID: the floor."""
    from google.cloud.spanner_v1 import COMMIT_TIMESTAMP

    with google.snapshot() as snapshot:
        found = snapshot.execute_sql(
            f"SELECT * FROM {receipts.TABLE} ORDER BY commit_timestamp DESC LIMIT 1"  # noqa: S608
        )
        (row,) = found
        kept = {
            field.name: COMMIT_TIMESTAMP if field.name == "commit_timestamp" else value
            for field, value in zip(found.fields, row, strict=True)
            if value is not None and not field.name.endswith("shard")
        }

    def both(txn: Any) -> None:
        body(txn)
        txn.insert(receipts.TABLE, list(kept), [[*{**kept, "txn_id": str(uuid.uuid4())}.values()]])

    return both


def _stepped(ours: Database, google: Any, rounds: int) -> Figure:
    run = Run(ours, "steps")
    sides = [
        lambda: run.step("one", _dml, expect_replay=False),
        lambda: google.run_in_transaction(_google_dml),
    ]
    left, right = interleaved(sides, rounds=rounds, warm_up=63)
    mean = Sample((sum(left.values) / len(left.values),))
    return Figure(
        name="transaction: mean of many steps, leases included",
        unit="ms",
        ours=mean,
        theirs=Sample((sum(right.values) / len(right.values),)),
        against="run_in_transaction",
    )


def _dml(txn: Any) -> int:
    return int(txn.execute_update(_SQL, {"by": 1, "k": 1}))


def _google_dml(txn: Any) -> int:
    from google.cloud.spanner_v1 import param_types

    types = {"by": param_types.INT64, "k": param_types.INT64}
    return int(txn.execute_update(_SQL, {"by": 1, "k": 1}, types))


def _mutate(txn: Any) -> None:
    txn.insert_or_update("log", _COLUMNS, [["one", 1, "x"]])
