"""What a transaction writes besides the user's rows is its own: no hot row, no counter, no lock."""

import threading
from datetime import timedelta

import pytest

from spanctl.spanner.changes import changes
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from tests.faults import raw
from tests.faults.proxy import FaultProxy, hold

pytestmark = pytest.mark.emulator


def count_up(row: int):
    def body(txn) -> None:
        txn.execute_update("UPDATE t SET v = v + 1 WHERE k = @k", {"k": row})

    return body


def test_transactions_on_disjoint_rows_share_no_key(
    proxy: FaultProxy, emulator_address, ledger
) -> None:
    """Of one run or of two, at the same flow or not: the keys they write have nothing in common."""
    with raw.database(emulator_address, ledger) as database, database.batch() as batch:
        batch.insert("t", ["k", "v"], [[2, 0], [3, 0]])
    with Database(raw.target(proxy.address, ledger)) as database:
        one_run = Run(database, "one")
        results = [
            one_run.step("step", count_up(1)),
            one_run.step("step", count_up(2)),
            Run(database, "another").step("step", count_up(3)),
        ]
        commits = [rpc for rpc in proxy.rpcs("Commit") if "spanctl_receipts" in rpc.peek.writes]
        # DML rows are the user's; all that we add ourselves is in the mutations of the commit.
        assert [rpc.peek.writes for rpc in commits] == [("spanctl_receipts",)] * 3
        first = min(one.commit_timestamp for one in results)
        last = max(one.commit_timestamp for one in results) + timedelta(microseconds=1)
        found = [
            record for record in changes(database, first, last) if record.commit_timestamp < last
        ]
    written: dict[str, set[tuple[object, ...]]] = {}
    for record in found:
        keys = written.setdefault(record.server_transaction_id, set())
        keys.update((row.table, *row.keys.values()) for row in record.rows)
    assert len(written) == 3
    assert all(len(keys) == 2 for keys in written.values())
    assert len(set.union(*written.values())) == 6


def test_a_transaction_that_waits_in_its_commit_keeps_no_lock_on_the_ledger(
    proxy: FaultProxy, emulator_address, ledger
) -> None:
    """While one commit is held back, the ledger can be read and another run leases and commits."""
    rule = proxy.add("Commit", hold(), when=lambda peek: "spanctl_receipts" in peek.writes)
    with Database(raw.target(proxy.address, ledger)) as slow:
        waiting = threading.Thread(
            target=lambda: Run(slow, "slow").step("step", lambda txn: txn.insert("t", ["k"], [[9]]))
        )
        waiting.start()
        rule.wait()
        with Database(raw.target(emulator_address, ledger)) as other:
            done = Run(other, "quick").step("step", count_up(1))
        rule.release()
        waiting.join(60)
    assert done.attempts >= 1
    assert raw.rows(emulator_address, ledger, "SELECT v FROM t WHERE k = 1") == [(1,)]
    assert raw.rows(emulator_address, ledger, "SELECT COUNT(*) FROM t WHERE k = 9") == [(1,)]
