"""Transactions a second with 1 and with 8 writers, each on a row of its own: ours and Google's."""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from spanctl.spanner import schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.bench.measure import Figure, Sample
from tests.faults import raw
from tests.faults.emulator import Emulator

_DDL = "CREATE TABLE t (k INT64 NOT NULL, v INT64) PRIMARY KEY (k)"
_SQL = "UPDATE t SET v = v + 1 WHERE k = @k"
_ROUNDS = 5
_TRANSACTIONS = 240

Write = Callable[[int, int], object]


def figures() -> Iterator[Figure]:
    """Yield 1 and 8 writers; leases are part of what is measured."""
    with _sides() as (ours, google):
        for writers in (1, 8):
            mine, theirs = [], []
            for number in range(1 + _ROUNDS):
                took = (
                    _rate(writers, _stepping(ours, f"{writers}-{number}", writers)),
                    _rate(writers, _plain(google)),
                )
                if number:  # the first warms up
                    mine.append(took[0])
                    theirs.append(took[1])
            yield Figure(
                name=f"throughput: {writers} writer{'s' if writers > 1 else ''}, DML",
                unit="txn/s",
                ours=Sample(tuple(mine)),
                theirs=Sample(tuple(theirs)),
                against="run_in_transaction",
                at_least=True,
            )


@contextlib.contextmanager
def _sides() -> Iterator[tuple[Database, Any]]:
    with Emulator() as emulator:
        name = raw.create_database(emulator.address, (_DDL,))
        with (
            Database(raw.target(emulator.address, name)) as ours,
            raw.database(emulator.address, name, checked=False) as google,
        ):
            schema.install(ours, ["t"])
            with google.batch() as batch:
                batch.insert("t", ("k", "v"), [[k, 0] for k in range(8)])
            yield ours, google


def _stepping(ours: Database, name: str, writers: int) -> Write:
    runs = [Run(ours, f"writers-{name}-{writer}") for writer in range(writers)]

    def write(writer: int, _: int) -> object:
        return runs[writer].step(
            "add", lambda txn: txn.execute_update(_SQL, {"k": writer}), expect_replay=False
        )

    return write


def _plain(google: Any) -> Write:
    from google.cloud.spanner_v1 import param_types

    def write(writer: int, _: int) -> object:
        types = {"k": param_types.INT64}
        return google.run_in_transaction(
            lambda txn: txn.execute_update(_SQL, {"k": writer}, types), timeout_secs=120
        )

    return write


def _rate(writers: int, write: Write) -> float:
    """Let every writer do its share, and return how many transactions a second were committed."""
    share = _TRANSACTIONS // writers

    def work(writer: int) -> None:
        for number in range(share):
            write(writer, number)

    with ThreadPoolExecutor(writers) as pool:
        began = time.perf_counter()
        for done in [pool.submit(work, writer) for writer in range(writers)]:
            done.result()
        return writers * share / (time.perf_counter() - began)
