"""SQL as a runbook: one transaction, one receipt, and nothing private in Prefect's hands."""

import json

import pytest
from prefect.client.orchestration import get_client

from spanctl.clock import now
from spanctl.errors import (
    ConflictError,
    KeyClosedError,
    KeyReusedError,
    LimitError,
    NotIdempotentError,
    StatementError,
    UsageError,
)
from spanctl.flows import using
from spanctl.flows.launch import execute, register
from spanctl.flows.sql import Script, SqlMode, prepared, run_sql
from spanctl.invocation import Invocation
from spanctl.ledger.fences import Author
from spanctl.ledger.receipt import Provenance
from spanctl.ledger.receipt import StatementKind as Kind
from spanctl.spanner import admin, changes, fence, limbo, schema
from spanctl.spanner.operation import Call
from spanctl.spanner.partitioned import execute_partitioned
from spanctl.spanner.rehearsal import SAMPLE
from tests.faults import raw
from tests.faults.proxy import FaultProxy

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]

SECRET = "hunter2"  # noqa: S105 - looked for in Prefect's database


def run(*texts, p=(), key=None, dry_run=False, **options):
    with using(idempotency_key=key), prepared(Script.read(texts, p, **options)) as parameters:
        return run_sql(**parameters, dry_run=dry_run)


@pytest.fixture
def accounts(bank, prefect):  # noqa: ARG001 - where flows run
    return bank


def test_queries_return_rows_and_leave_no_receipt(accounts):
    """Reading is no transaction: columns, rows, nothing in the ledger."""
    result = run(
        "SELECT id, balance FROM accounts WHERE balance = @b ORDER BY id; SELECT 1 AS one",
        p=["b:INT64=0"],
    )
    assert result.mode is SqlMode.QUERIES
    assert [column.name for column in result.statements[0].columns] == ["id", "balance"]
    assert result.statements[0].rows == (("a", 0), ("b", 0))
    assert result.statements[1].rows == ((1,),)
    assert result.transaction is None
    assert accounts.receipts() == []


def test_dml_is_one_transaction_with_one_receipt(accounts):
    """Statements run in order, see what came before, and are all in one receipt."""
    with using(reason="ticket 7", initiator="ada"):
        result = run(
            "UPDATE accounts SET balance = balance + @n WHERE id = @id;"
            "SELECT balance FROM accounts WHERE id = @id;"
            "INSERT INTO events (id, what) VALUES ('e', 'secret') THEN RETURN id",
            p=["n:INT64=5", "id:STRING=a"],
        )
    assert [one.row_count for one in result.statements] == [1, None, 1]
    assert [one.rows for one in result.statements] == [None, ((5,),), (("e",),)]
    assert result.transaction is not None
    (receipt,) = accounts.receipts()
    assert receipt.txn_id == result.transaction.txn_id
    assert [one.kind for one in receipt.statements] == [Kind.UPDATE, Kind.QUERY, Kind.INSERT]
    assert receipt.row_counts == (1, 1)
    assert "secret" not in str(receipt.statements)
    assert (receipt.provenance.reason, receipt.provenance.initiator) == ("ticket 7", "ada")
    assert receipt.provenance.flow == "sql"
    assert receipt.provenance.flow_run == receipt.provenance.root_run
    assert receipt.provenance.task == "sql"
    assert receipt.provenance.task_run
    assert accounts.leases(only_open=True) == 0


def test_all_or_nothing(accounts):
    """A refused statement names its line and why, and the ones before it are not committed."""
    with pytest.raises(StatementError, match="statement 2 in line 2") as caught:
        run("UPDATE accounts SET balance = 9 WHERE true;\nUPDATE accounts SET nope = 1 WHERE true")
    assert "Unrecognized name: nope" in caught.value.message
    assert accounts.balance() == 0
    assert accounts.receipts() == []


def test_the_same_key_is_applied_once(accounts):
    """An idempotency key makes a script at most once; with another value it is refused."""
    add = "UPDATE accounts SET balance = balance + @n WHERE id = 'a'"
    first = run(add, p=["n:INT64=5"], key="k")
    again = run(add, p=["n:INT64=5"], key="k")
    assert first.transaction is not None
    assert again.transaction is not None
    assert again.transaction.replayed
    assert again.transaction.txn_id == first.transaction.txn_id
    assert again.statements[0].row_count == 1
    with pytest.raises(KeyReusedError):
        run(add, p=["n:INT64=6"], key="k")
    assert accounts.balance() == 5
    run(add, p=["n:INT64=1"])
    run(add, p=["n:INT64=1"])
    assert accounts.balance() == 7


def test_a_dry_run_is_executed_and_rolled_back(accounts):
    """It shows the rows and counts of the real thing, and leaves neither change nor receipt."""
    add = "UPDATE accounts SET balance = 5 WHERE true; SELECT balance FROM accounts WHERE id = 'a'"
    result = run(add, dry_run=True, key="k")
    assert result.dry_run
    assert [one.row_count for one in result.statements] == [2, None]
    assert result.statements[1].rows == ((5,),)
    assert result.transaction is None
    assert accounts.balance() == 0
    assert accounts.receipts() == []
    real = run(add, key="k")
    assert real.transaction is not None
    assert not real.transaction.replayed
    assert accounts.balance() == 5


def test_a_dry_run_shows_rows_and_writes_nothing(accounts, emulator, monkeypatch):
    """A sample before and after; in the proxy's log Rollback and no Commit, in the ledger nothing.

    Neither receipt nor lease nor change in the stream: the database is read as it was.
    """
    name = accounts.target.database.database
    asked = (
        "UPDATE accounts SET balance = balance + @n WHERE true;"
        "UPDATE accounts a SET a.balance = a.balance * 2 WHERE a.id = 'a' THEN RETURN id;"
        "DELETE FROM accounts WHERE id = 'b';"
        "INSERT INTO events (id, what) SELECT CONCAT('e', CAST(n AS STRING)), 'new'"
        " FROM UNNEST(GENERATE_ARRAY(1, 9)) AS n -- a comment"
    )
    schema.install(accounts.database, ["accounts", "events"])
    began = now()
    with FaultProxy(emulator) as proxy:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", proxy.address)
        result = run(asked, p=["n:INT64=5"], dry_run=True)
        rollbacks, commits = proxy.rpcs("Rollback"), proxy.rpcs("Commit")
    assert (len(rollbacks), commits) == (1, [])
    assert [one.row_count for one in result.statements] == [2, 1, 1, 9]
    assert result.statements[1].rows == (("a",),)
    told = [(one.table, one.mod_type.value, one.keys["id"]) for one in result.sample]
    assert told[:2] == [("accounts", "UPDATE", "a"), ("accounts", "DELETE", "b")]
    assert [one[:2] for one in told[2:]] == [("events", "INSERT")] * SAMPLE
    updated, deleted, *inserted = result.sample
    assert (updated.before, updated.after) == ({"balance": 0}, {"balance": 10})
    assert (deleted.before, deleted.after) == ({"balance": 0}, None)
    assert all(one.before is None and one.after == {"what": "new"} for one in inserted)
    assert (accounts.receipts(), accounts.leases(), accounts.balance("b")) == ([], 0, 0)
    assert list(changes.changes(accounts.database, began, now())) == []
    assert raw.rows(emulator, name, "SELECT COUNT(*) FROM events") == [(0,)]


def test_a_dry_run_of_what_cannot_be_read_back_shows_counts_only(accounts):
    """A pending commit timestamp, and a table without rows to show, spoil nothing."""
    made = (
        "CREATE TABLE made (k INT64, t TIMESTAMP OPTIONS (allow_commit_timestamp = true))"
        " PRIMARY KEY (k)"
    )
    admin.execute_ddl(accounts.target, [made])
    result = run(
        "INSERT INTO made (k, t) VALUES (1, PENDING_COMMIT_TIMESTAMP());"
        "DELETE FROM events WHERE true; SELECT 1",
        dry_run=True,
    )
    assert [one.row_count for one in result.statements] == [1, 0, None]
    assert result.sample == ()
    with pytest.raises(StatementError, match="statement 2 in line 1"):
        run("DELETE FROM events WHERE true; UPDATE made SET nope = 1 WHERE true", dry_run=True)
    assert accounts.receipts() == []


def test_ddl_is_recorded_as_a_pair(accounts):
    """Two receipts say started and finished, and the second names the first."""
    ddl = "CREATE TABLE made (a INT64) PRIMARY KEY (a); CREATE INDEX by_a ON made (a)"
    shown = run(ddl, ddl=True, dry_run=True)
    assert shown.dry_run
    assert accounts.receipts() == []
    result = run(ddl, ddl=True)
    assert result.at_least_once
    started, finished = result.entries
    found = {one.txn_id: one for one in accounts.receipts()}
    assert set(found) == {started.txn_id, finished.txn_id}
    for receipt in found.values():
        assert [one.kind for one in receipt.statements] == [Kind.DDL, Kind.DDL]
        assert receipt.statements[0].tables == ("made",)
    assert json.loads(found[started.txn_id].result)["phase"] == "started"
    kept = json.loads(found[finished.txn_id].result)
    assert (kept["phase"], kept["started"]) == ("finished", started.txn_id)
    assert run("SELECT COUNT(*) FROM made").statements[0].rows == ((0,),)


def test_failed_ddl_is_recorded_as_failed(accounts):
    """The pair is there too, and doesn't claim that it finished."""
    with pytest.raises(StatementError):
        run("CREATE TABLE accounts (a INT64) PRIMARY KEY (a)", ddl=True)
    phases = sorted(json.loads(one.result)["phase"] for one in accounts.receipts())
    assert phases == ["failed", "started"]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (f"CREATE TABLE made (a STRING(MAX) DEFAULT ('{'x' * 11_000_000}'))", {"ddl": True}),
        ("DELETE FROM accounts WHERE id IN (" + "1, " * 400_000 + "1)", {"partitioned": True}),
        (
            "DELETE FROM accounts WHERE @x = ''",
            {"partitioned": True, "p": [f"x:STRING={'x' * 11_000_000}"]},
        ),
    ],
    ids=["DDL", "statement", "parameter"],
)
def test_what_is_too_large_to_be_sent_is_not_started(accounts, text, options):
    """It is refused before anything is recorded, so that nothing is left that may be applied."""
    with pytest.raises(LimitError):
        run(text, **options)
    assert accounts.receipts() == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("CREATE UNIQUE INDEX alike ON accounts (balance)", "statements 1 to 2 are applied"),
        ("CREATE TABLE accounts (a INT64) PRIMARY KEY (a)", "nothing is applied"),
    ],
)
def test_ddl_that_fails_says_what_is_applied(accounts, bad, words):
    """And which transaction began it, for whoever has to go on by hand."""
    run("UPDATE accounts SET balance = 3 WHERE true")
    made = [f"CREATE TABLE {name} (a INT64) PRIMARY KEY (a)" for name in ("one", "two")]
    with pytest.raises(StatementError, match=words) as caught:
        run(";".join([*made, bad, "DROP TABLE one"]), ddl=True)
    assert "statement 3 in line 1" in caught.value.message
    started = caught.value.details["started"]
    assert f"begun by transaction {started}" in caught.value.message
    (kept,) = [one.result for one in accounts.receipts() if one.txn_id == started]
    assert json.loads(kept)["phase"] == "started"
    tables = "SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME IN ('one', 'two')"
    assert run(tables).statements[0].rows == ((2 if "statements" in words else 0,),)


def test_ddl_under_a_key_is_not_started_twice(accounts):
    """Finished, it is replayed; failed or unfinished, it is refused: it may be applied in part."""
    ddl = "CREATE TABLE made (a INT64) PRIMARY KEY (a)"
    first = run(ddl, ddl=True, key="k")
    again = run(ddl, ddl=True, key="k")
    assert [one.txn_id for one in again.entries] == [one.txn_id for one in first.entries]
    assert not again.at_least_once
    with pytest.raises(StatementError):
        run(ddl, ddl=True, key="other")
    with pytest.raises(ConflictError, match="started before"):
        run(ddl, ddl=True, key="other")
    assert len(accounts.receipts()) == 4


def test_partitioned_dml_is_recorded_as_a_pair(accounts):
    """Its count is a lower bound, and its receipts say so by their kind."""
    result = run("UPDATE accounts SET balance = @n WHERE true", p=["n:INT64=3"], partitioned=True)
    assert [one.kind for one in result.statements] == [Kind.PARTITIONED_DML]
    assert result.statements[0].row_count == 2
    assert result.at_least_once
    assert accounts.balance() == 3
    finished = next(
        one for one in accounts.receipts() if json.loads(one.result)["phase"] == "finished"
    )
    assert finished.statements[0].kind is Kind.PARTITIONED_DML
    assert finished.statements[0].rows == 2
    assert finished.statements[0].parameters == ("n",)


def test_partitioned_dml_that_twice_may_harm_is_refused(accounts):
    """It needs a person's word; the ledger keeps whether that was checked or assumed."""
    add = "UPDATE accounts SET balance = balance + 1 WHERE true"
    with pytest.raises(NotIdempotentError, match="balance is set from balance"):
        run(add, partitioned=True)
    with pytest.raises(NotIdempotentError, match="set from balance"):
        execute_partitioned(accounts.database, add)
    assert accounts.receipts() == []
    assert accounts.balance() == 0
    assert run(add, partitioned=True, assume_idempotent=True).idempotent == "assumed"
    assert run(add.replace("balance + 1", "7"), partitioned=True).idempotent == "checked"
    kept = sorted(json.loads(one.result)["idempotent"] for one in accounts.receipts())
    assert kept == ["assumed", "assumed", "checked", "checked"]
    assert all(one.rows_at_least for one in accounts.receipts() if one.rows)
    with pytest.raises(UsageError, match="only partitioned DML"):
        run(add, assume_idempotent=True)


def test_generated_columns_are_read_from_the_catalog(accounts):
    """A column that is computed from the one that is written is no constant."""
    made = "CREATE TABLE made (k INT64, a INT64, g INT64 AS (a + 1) STORED) PRIMARY KEY (k)"
    admin.execute_ddl(accounts.target, [made])
    with pytest.raises(NotIdempotentError, match="computed from other columns"):
        run("UPDATE made SET a = g WHERE true", partitioned=True)
    assert accounts.receipts() == []


def test_what_died_between_its_entries_is_listed_until_it_is_resolved(accounts, monkeypatch):
    """Started without finished: in limbo, resolved by a fence, and refused to be gone on with."""
    from spanctl.flows import outside

    def dies(*_):
        raise KeyboardInterrupt

    ddl = "CREATE TABLE made (a INT64) PRIMARY KEY (a)"
    with monkeypatch.context() as patched:
        patched.setattr(outside, "_apply", dies)
        patched.setattr(outside.Committing, "commit", _only_first(outside.Committing.commit))
        with pytest.raises(KeyboardInterrupt):
            run(ddl, ddl=True, key="k")
    (open_one,) = limbo.find(accounts.database, "")
    assert open_one.step == "ddl-finished"
    with pytest.raises(ConflictError, match="started before"):
        run(ddl, ddl=True, key="k")
    fence.place(
        accounts.database,
        Call(open_one.key),
        author=Author.OPERATOR,
        provenance=Provenance(reason="looked"),
    )
    assert not list(limbo.find(accounts.database, ""))
    with pytest.raises(KeyClosedError, match="an earlier run began this and died"):
        run(ddl, ddl=True, key="k")


def _only_first(commit):
    done = []

    def committing(*args, **kwargs):
        if done:
            raise KeyboardInterrupt
        done.append(True)
        return commit(*args, **kwargs)

    return committing


def test_a_lost_body_is_run_again_once(accounts, monkeypatch):
    """A task that Prefect runs again after its commit finds its receipt."""
    from spanctl.errors import OutcomeUnknownError
    from spanctl.flows import sql
    from spanctl.spanner.run import Run

    monkeypatch.setattr(sql._transact, "retry_delay_seconds", 0)  # noqa: SLF001 - keeps it short
    original, failed = Run.execute, []

    def losing(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        if not failed:
            failed.append(result)
            msg = "lost"
            raise OutcomeUnknownError(msg)
        return result

    monkeypatch.setattr(Run, "execute", losing)
    result = run("UPDATE accounts SET balance = balance + 5 WHERE id = 'a'")
    assert result.transaction is not None
    assert result.transaction.replayed
    assert accounts.balance() == 5


def test_prefect_gets_no_value(accounts):
    """The flow run that Prefect stores holds masked SQL, names and types: no literal, no value."""
    text = f"UPDATE accounts SET balance = 1 WHERE id = '{SECRET}' OR id = @p"  # noqa: S608
    with prepared(Script.read([text], [f"p:STRING={SECRET}"])) as parameters:
        asked = Invocation()
        registered = register(run_sql, parameters, asked)
        finished = execute(run_sql, registered, parameters, asked)
    finished.check()
    assert finished.result.statements[0].row_count == 0
    with get_client(sync_client=True) as client:
        stored = client.read_flow_run(registered.id)
    assert "id = ?" in str(stored.parameters)
    assert SECRET not in stored.model_dump_json()
    (receipt,) = accounts.receipts()
    assert SECRET not in repr(receipt)


@pytest.mark.usefixtures("accounts")
def test_a_run_without_its_script_is_refused():
    """Another process, or another script, can't stand in for the one that was described."""
    described = Script.read(["UPDATE accounts SET balance = 1 WHERE true"]).public()
    with pytest.raises(UsageError, match="in the process that began it"):
        run_sql(**described)
    with prepared(Script.read(["SELECT 1"])), pytest.raises(UsageError):
        run_sql(**described)
