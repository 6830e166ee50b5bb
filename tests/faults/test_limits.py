"""What is over one of Spanner's limits is refused by name, and never sent."""

import pytest

from spanctl.errors import LimitError, StatementError
from spanctl.spanner import limits, preflight
from spanctl.spanner.client import Database
from spanctl.spanner.keysets import KeyRange, KeySet
from spanctl.spanner.run import Run
from tests.faults import checks, raw
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.emulator

MUTATIONS = 800
INDEXED = (
    "CREATE TABLE wide (k INT64 NOT NULL, a INT64, b INT64) PRIMARY KEY (k)",
    "CREATE INDEX wide_by_a ON wide (a)",
    "CREATE NULL_FILTERED INDEX wide_by_b ON wide (b)",
)


@pytest.fixture
def database(proxy: FaultProxy, ledger: str, monkeypatch: pytest.MonkeyPatch):
    """The limit of mutations is made small: the emulator takes minutes for what is near it."""
    from spanctl.spanner import admin

    monkeypatch.setattr(limits, "MAX_MUTATIONS", MUTATIONS)
    admin.execute_ddl(raw.target(proxy.address, ledger), INDEXED)
    with Database(raw.target(proxy.address, ledger)) as made:
        _ = made.ledger
        yield made


def commits(proxy: FaultProxy, table: str) -> list[object]:
    return [one for one in proxy.rpcs("Commit") if table in one.peek.writes]


def refused(database: Database, body) -> LimitError:
    with pytest.raises(LimitError) as caught:
        checks.within_reason(lambda: Run(database, "job").step("step", body))
    assert caught.value.hint
    return caught.value


def test_too_many_mutations_are_not_sent(proxy, emulator_address, ledger, database) -> None:
    """Index entries count: columns alone would fit. Nothing begins, nothing is committed."""
    rows = [(k, k, None) for k in range(205)]

    def body(txn) -> None:
        txn.insert("WIDE", ["k", "a", "b"], rows)

    error = refused(database, body)
    assert error.details["limit"] == "commit_mutations"
    assert 205 * 3 < limits.MAX_MUTATIONS < error.details["counted"] < 205 * 4 + 100
    assert not commits(proxy, "WIDE")
    assert raw.rows(emulator_address, ledger, "SELECT COUNT(*) FROM wide") == [(0,)]
    assert not [one for one in proxy.rpcs("BeginTransaction") if one.peek.begins]


def test_what_fits_is_sent_though_it_might_not_fit(proxy, database) -> None:
    """The cheap bound only has the catalog read, once: an update of few columns goes through."""

    def body(txn) -> None:
        txn.insert("wide", ["k", "a"], [(k, 0) for k in range(100)])

    Run(database, "job").step("step", body)
    Run(database, "job").step("again", lambda txn: txn.delete("wide", KeySet(all_=True)))
    Run(database, "job").step("once more", body)
    asked = [one for one in proxy.rpcs() if "INFORMATION_SCHEMA.COLUMNS" in one.peek.sql]
    assert len(asked) == 1
    assert len(commits(proxy, "wide")) == 3


def test_small_transactions_read_no_catalog(proxy, database) -> None:
    """The happy path has no round trip more than before."""
    Run(database, "job").step("step", lambda txn: txn.insert("wide", ["k"], [[1]]))
    assert not [one for one in proxy.rpcs() if "INFORMATION_SCHEMA" in one.peek.sql]


def test_an_index_that_is_gone_refuses_nothing(proxy, database) -> None:
    """What was read earlier is read again before it is a reason to refuse."""
    from spanctl.spanner import admin

    rows = [(k, None, None) for k in range(205)]

    def body(txn) -> None:
        txn.insert("wide", ["k", "a", "b"], rows)
        txn.delete("wide", KeySet(ranges=[KeyRange(start_closed=[0], end_closed=[10**6])]))

    refused(database, body)
    admin.execute_ddl(database.target, ["DROP INDEX wide_by_a"])
    checks.within_reason(lambda: Run(database, "other").step("step", body))
    assert commits(proxy, "wide")


def test_dml_counts_with_the_mutations(proxy, emulator_address, ledger, database) -> None:
    """Rows that statements changed count too, so both together are refused, and rolled back."""

    def body(txn) -> None:
        assert txn.execute_update("UPDATE wide SET a = 1, b = 2 WHERE true") == 150
        txn.insert("wide", ["k", "a"], [(k, 0) for k in range(2_000, 2_120)])

    with raw.database(emulator_address, ledger) as google, google.batch() as batch:
        batch.insert("wide", ["k", "a"], [[k, 0] for k in range(150)])
    error = refused(database, body)
    assert error.details["counted"] > 150 * 3 + 120 * 3
    assert proxy.rpcs("Rollback")
    assert not commits(proxy, "wide")
    checks.rollbacks_are_right(proxy)
    left = raw.rows(emulator_address, ledger, "SELECT COUNT(*), MAX(a) FROM wide")
    assert left == [(150, 0)]


def test_large_requests_are_not_sent(proxy, database) -> None:
    """A statement, a read, a query and an INSERT beyond a request's limits stay here."""
    large = "x" * (limits.MAX_REQUEST_BYTES + 1)
    values = ", ".join(f"({k})" for k in range(limits.MAX_MUTATIONS + 1))
    bodies = {
        "request_bytes": [
            lambda txn: txn.execute_sql("SELECT @p", {"p": large}),
            lambda txn: txn.execute_update("UPDATE wide SET a = 1 WHERE @p = ''", {"p": large}),
            lambda txn: txn.read("events", ["id"], KeySet(keys=[[large]])),
            lambda _: database.query("SELECT @p", {"p": large}),
        ],
        "statement_mutations": [
            lambda txn: txn.execute_update(f"INSERT INTO wide (k) VALUES {values}"),  # noqa: S608
        ],
    }
    for limit, tried in bodies.items():
        for number, body in enumerate(tried):
            assert refused(database, lambda txn, body=body: body(txn)).details["limit"] == limit
            assert number < len(tried)
    assert not [one for one in proxy.rpcs("ExecuteSql") if "wide" in one.peek.sql]
    assert not [one for one in proxy.rpcs("ExecuteStreamingSql") if "@p" in one.peek.sql]
    assert not [one for one in proxy.rpcs("StreamingRead") if one.peek.sql == "events"]


def test_large_commits_are_not_sent(proxy, database, monkeypatch) -> None:
    """Bytes of all mutations together count; the limit is made small, to spare the memory."""
    monkeypatch.setattr(limits, "MAX_COMMIT_BYTES", 1_000_000)

    def body(txn) -> None:
        for _ in range(11):
            txn.insert("events", ["id"], [["x" * 100_000]])

    assert refused(database, body).details["limit"] == "commit_bytes"
    assert not commits(proxy, "events")


def test_an_unknown_table_is_left_to_spanner(database) -> None:
    """What can't be counted is sent, and the answer is Spanner's own."""
    with pytest.raises(StatementError):
        Run(database, "job").step(
            "step", lambda txn: txn.insert("nowhere", ["k"], [[k] for k in range(700)])
        )
    assert preflight.Tables(database).get("nowhere") is None
