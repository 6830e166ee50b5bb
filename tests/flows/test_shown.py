"""What a run leaves behind: names, artifacts, provenance and closed leases."""

import json
from typing import Any
from unittest import mock

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from spanctl.errors import KeyReusedError, NotFoundError, UsageError
from spanctl.flows import (
    Dml,
    Mutation,
    MutationKind,
    SpannerCredentials,
    SpannerDatabase,
    execute_dml,
    query,
    runs,
    transaction,
    using,
    write,
)
from spanctl.flows.runs import ARTIFACT_KEY, registry
from spanctl.flows.targets import resolve
from spanctl.ledger.receipt import TransactionResult
from tests.flows.bank import Bank, add, deposit

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]


def artifacts(flow_run: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run]))
        return client.read_artifacts(artifact_filter=wanted)


def test_a_flow_run_shows_its_transactions_in_one_artifact(bank: Bank) -> None:
    """At its end each flow run has one table of its own transactions, failed ones included."""

    @transaction
    def broken(txn) -> None:
        txn.insert("accounts", ["id", "balance"], [["a", 1]])

    @flow
    def part() -> None:
        deposit("b", 7)

    @flow
    def settle() -> list[TransactionResult]:
        results = [deposit("a", 5), deposit("a", 6)]
        part()
        broken(return_state=True)
        return results

    state = settle(return_state=True)
    first, second = state.result()
    flow_run = state.state_details.flow_run_id
    (artifact,) = artifacts(flow_run)
    assert (artifact.key, artifact.type) == (ARTIFACT_KEY, "table")
    assert "2 COMMITTED, 1 NOT_COMMITTED" in artifact.description
    rows = json.loads(artifact.data)
    assert [row["outcome"] for row in rows] == ["COMMITTED", "COMMITTED", "NOT_COMMITTED"]
    assert [row["error"] for row in rows] == [None, None, "statement_failed"]
    assert [row["txn_id"] for row in rows[:2]] == [first.txn_id, second.txn_id]
    assert rows[0]["step"] == "deposit"
    assert rows[0]["rows"] == 1
    assert rows[0]["commit_timestamp"].endswith("Z")
    assert bank.leases(only_open=True) == 0


def test_a_long_runs_artifact_keeps_what_did_not_simply_commit(
    bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not all fit, commits are left out first: a failure is never cut off."""
    monkeypatch.setattr(runs, "_MAX_ROWS", 2)

    @flow
    def settle() -> None:
        deposit("nobody", 1, return_state=True)
        for _ in range(3):
            last = deposit("a", 1)
        assert last.txn_id

    state = settle(return_state=True)
    (artifact,) = artifacts(state.state_details.flow_run_id)
    outcomes = [row["outcome"] for row in json.loads(artifact.data)]
    assert outcomes == ["NOT_COMMITTED", "COMMITTED"]
    assert "3 COMMITTED, 1 NOT_COMMITTED; 2 are shown" in artifact.description
    assert bank.balance() == 3


def test_a_receipt_says_where_it_comes_from(bank: Bank) -> None:
    """Flow, task, runs, attempt, initiator, executor, reason and tag are in the receipt."""

    @flow
    def part() -> None:
        deposit.with_options(tag="app=till")("a", 5)

    @flow
    def settle() -> None:
        part()

    with using(initiator="ada@example.com", reason="month end"):
        state = settle(return_state=True)
    (receipt,) = bank.receipts()
    found = receipt.provenance
    assert found.root_run == str(state.state_details.flow_run_id)
    assert found.flow_run not in {None, found.root_run}
    assert (found.flow, found.task, found.attempt) == ("part", "deposit", 1)
    assert (found.initiator, found.reason, found.tag) == (
        "ada@example.com",
        "month end",
        "app=till",
    )
    assert found.executor is not None
    assert " pid " in found.executor
    assert bank.leases(only_open=True) == 0


def test_nobody_named_is_the_user_of_this_machine(bank: Bank) -> None:
    """Without an initiator, the one who runs the process is claimed to be it."""

    @flow
    def settle() -> None:
        deposit("a", 5)

    settle()
    (receipt,) = bank.receipts()
    initiator = receipt.provenance.initiator or ""
    assert "@" in initiator
    assert (receipt.provenance.executor or "").startswith(initiator)


def test_an_artifact_that_cannot_be_written_fails_nothing(
    bank: Bank, caplog: pytest.LogCaptureFixture
) -> None:
    """The flow run ends as it would have; the log says that the artifact is missing."""

    @flow
    def settle() -> None:
        deposit("a", 5)

    refused = mock.patch.object(
        SyncPrefectClient, "create_artifact", side_effect=httpx.ConnectError("gone")
    )
    with refused:
        state = settle(return_state=True)
    assert state.is_completed()
    assert bank.balance() == 5
    assert "no artifact of the transactions: ConnectError" in caplog.text
    assert bank.leases(only_open=True) == 0


def test_an_interrupted_body_is_not_shown_as_unknown(bank: Bank) -> None:
    """Ctrl-C in a body: rolled back, its lease closed, and shown as what it is."""
    seen = []

    @transaction
    def interrupted(txn) -> None:
        add(txn, "a", 5)
        raise KeyboardInterrupt

    @flow
    def settle() -> None:
        interrupted()

    with registry.observed(seen.append), pytest.raises(KeyboardInterrupt):
        settle()
    assert [(one.step, one.outcome.value) for one in seen] == [("interrupted", "NOT_COMMITTED")]
    assert bank.balance() == 0
    assert bank.leases(only_open=True) == 0


def test_a_reused_key_does_not_deny_what_it_committed(bank: Bank) -> None:
    """The txn ID of a refused call is that of a commit: nothing says NOT_COMMITTED of it.

    The artifact shows that commit, and that a call was refused.
    """
    seen = []

    @flow
    def settle() -> None:
        deposit("a", 5, key="k")
        with pytest.raises(KeyReusedError):
            deposit("a", 6, key="k")

    with registry.observed(seen.append):
        state = settle(return_state=True)
    assert [one.outcome.value for one in seen] == ["COMMITTED"]
    assert bank.balance() == 5
    (artifact,) = artifacts(state.state_details.flow_run_id)
    (row,) = json.loads(artifact.data)
    assert (row["outcome"], row["rows"], row["error"]) == ("COMMITTED", 1, "key_reused")


def test_a_failed_flow_closes_its_leases(bank: Bank) -> None:
    """A flow that fails with every outcome known leaves no lease open."""

    @flow
    def settle() -> None:
        deposit("a", 5)
        deposit("nobody", 5)

    assert settle(return_state=True).is_failed()
    assert bank.leases(only_open=True) == 0
    assert bank.leases() > 0


def test_elements_of_a_map_that_never_ran_leave_no_lease_open(bank: Bank) -> None:
    """An element whose input failed is leased with the others, and closed with them."""

    @flow
    def settle() -> None:
        failed = deposit.submit("nobody", 1, return_state=False)
        deposit.map(["a", "a"], [1, failed], key=["x", "y"]).wait()

    settle()
    assert bank.balance() == 1
    assert bank.leases(only_open=True) == 0


def test_rows_are_queried_and_written_by_ready_made_tasks(bank: Bank) -> None:
    """`query`, `execute_dml` and `write` work on typed values, and the writes leave receipts."""

    @flow
    def settle() -> tuple[Any, ...]:
        dml = execute_dml(
            [
                Dml("UPDATE accounts SET balance = @n WHERE id = 'a'", {"n": 3}),
                "UPDATE accounts SET balance = balance + 1 WHERE TRUE",
            ]
        )
        write(
            [
                Mutation(
                    MutationKind.INSERT, "events", [["x", "one"], ["y", "two"]], ["id", "what"]
                ),
                Mutation(MutationKind.DELETE, "events", [["x"]]),
            ]
        )
        rows = query(
            "SELECT id, balance FROM accounts WHERE id IN UNNEST(@ids) ORDER BY id",
            {"ids": []},
            {"ids": "ARRAY<STRING>"},
        )
        return dml, rows, query("SELECT id FROM events"), query("SELECT balance FROM accounts")

    dml, none, events, balances = settle()
    assert (dml.result, dml.row_counts) == ([1, 2], (1, 2))
    assert none == []
    assert events == [{"id": "y"}]
    assert sorted(row["balance"] for row in balances) == [1, 4]
    assert bank.keys() == ["execute_dml#0", "write#0"]


@pytest.mark.usefixtures("bank")
def test_a_query_without_column_names_is_refused() -> None:
    """Rows by column name need names: none, or one twice, is told before anything is lost."""
    for sql in ("SELECT 1", "SELECT 1 AS a, 2 AS a"):
        with pytest.raises(UsageError, match="no name of their own"):
            query(sql)


def test_blocks_name_a_database(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step takes a block, or its name with or without its type, before anything else."""
    name = bank.target.database
    for variable in ("SPANCTL_PROJECT", "SPANCTL_INSTANCE", "SPANCTL_DATABASE"):
        monkeypatch.delenv(variable)
    block = SpannerDatabase(
        project=name.project,
        instance=name.instance,
        database=name.database,
        emulator_host=bank.target.emulator_host,
        credentials=SpannerCredentials(project="my-project", secret="till"),  # noqa: S106 - a name,
    )
    block.save(f"{name.database}")

    @flow
    def settle() -> None:
        deposit.with_options(database=block)("a", 1)
        deposit.with_options(database=name.database)("a", 10)
        with using(database=f"spanner-database/{name.database}"):
            deposit("a", 100)
        with using(database=str(name)):
            deposit("a", 1000)

    settle()
    assert bank.balance() == 1111
    loaded = SpannerDatabase.load(name.database)
    assert loaded.credentials
    assert loaded.credentials.model_dump() == {
        "project": "my-project",
        "secret": "till",
        "alias": "current",
        "impersonate": None,
        "block_type_slug": "spanner-credentials",
    }


@pytest.mark.usefixtures("bank")
def test_what_names_no_database_is_refused() -> None:
    """An unknown block and a value of another kind are told, before anything is run."""
    with pytest.raises(NotFoundError, match="no Prefect block 'spanner-database/none'"):
        resolve("none")
    with pytest.raises(UsageError, match="a int names no database"):
        resolve(5)


def test_a_block_checks_its_database() -> None:
    """A block that names no valid database can't be made."""
    with pytest.raises(UsageError, match="no name of a Spanner database"):
        SpannerDatabase(project="P", instance="i", database="d")
