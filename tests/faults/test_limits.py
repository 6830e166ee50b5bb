"""What is over one of Spanner's limits is refused by name, and never sent."""

import pytest

from spanctl.errors import LimitError, StatementError
from spanctl.spanner import limits, preflight, receipts
from spanctl.spanner.client import Database
from spanctl.spanner.keysets import KeyRange, KeySet
from spanctl.spanner.operation import TransactionOptions
from spanctl.spanner.partitioned import execute_partitioned
from spanctl.spanner.run import Run
from tests.faults import checks, raw
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.emulator

MUTATIONS = 800
UPDATE_TOO_LONG = "UPDATE t SET v = 1 WHERE k = 1 --".ljust(limits.MAX_STATEMENT + 1, "x")
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
    """The happy path has no round trip more; only an emulator's tables are looked at, once."""
    run = Run(database, "job")
    run.step("step", lambda txn: txn.insert("wide", ["k"], [[1]]))
    looked = [one for one in proxy.rpcs() if "INFORMATION_SCHEMA" in one.peek.sql]
    run.step("step", lambda txn: txn.insert("wide", ["k"], [[2]]))
    assert [one for one in proxy.rpcs() if "INFORMATION_SCHEMA" in one.peek.sql] == looked


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


@pytest.mark.parametrize(
    ("sql", "params", "limit"),
    [
        (f"SELECT '{'x' * limits.MAX_STATEMENT}'", {}, "statement_length"),
        (UPDATE_TOO_LONG, {}, "statement_length"),
        (
            "SELECT 1",
            {f"p{n}": n for n in range(limits.MAX_PARAMETERS + 1)},
            "parameters",
        ),
    ],
    ids=["text", "dml", "parameters"],
)
def test_a_statement_over_its_limits_is_not_sent(proxy, database, sql, params, limit) -> None:
    """Whichever way it goes: in a body, as a query of its own, or in partitions."""
    before = len(proxy.rpcs())
    error = refused(database, lambda txn: txn.execute_sql(sql, params))
    assert error.details["limit"] == limit
    if sql.startswith("UPDATE"):
        refused(database, lambda txn: txn.execute_update(sql, params))
        with pytest.raises(LimitError):
            execute_partitioned(database, sql, params)
    else:
        with pytest.raises(LimitError):
            database.query(sql, params)
    sent = [one for one in proxy.rpcs()[before:] if "Sql" in one.method]
    assert sent == []


def test_what_is_at_its_limits_is_sent(database) -> None:
    """The limits themselves are allowed."""
    longest = "SELECT 1".ljust(limits.MAX_STATEMENT)
    assert list(database.query(longest)) == [(1,)]
    names = [f"p{n}" for n in range(limits.MAX_PARAMETERS)]
    sql = f"SELECT ARRAY_LENGTH([{', '.join(f'@{name}' for name in names)}])"
    assert list(database.query(sql, dict.fromkeys(names, 1))) == [(limits.MAX_PARAMETERS,)]


@pytest.mark.parametrize("different", [False, True])
def test_a_long_body_commits(emulator_address, ledger, different) -> None:
    """Many statements, equal or not, and more text than the receipt's column takes."""
    pad = ", ".join(f"v AS a_long_name_of_a_column_{number:04}" for number in range(400))

    def body(txn) -> None:
        for number in range(300):
            sql = f"SELECT {pad} FROM t WHERE k = @k"  # noqa: S608 - ours
            txn.execute_sql(f"{sql} -- {number}" if different else sql, {"k": 1})
        txn.update("t", ["k", "v"], [[1, 5]])

    with Database(raw.target(emulator_address, ledger)) as database:
        options = TransactionOptions(deadline=600)
        result = Run(database, "job").step("step", body, options=options)
        kept = receipts.get(database, result.txn_id)
    assert sum(one.times for one in kept.statements) == 301
    assert raw.rows(emulator_address, ledger, "SELECT v FROM t") == [(5,)]
