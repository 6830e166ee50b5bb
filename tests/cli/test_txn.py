"""``spanctl txn`` as people and scripts use it."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spanctl.errors import KeyClosedError
from spanctl.ledger.keys import OperationKey
from spanctl.ledger.receipt import EntryKind, Provenance
from spanctl.spanner import leases, limbo, receipts, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Call, Run
from spanctl_cli.output import text
from spanctl_cli.txns import facts
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, free_port
from tests.fixtures.cli import Ended, Spanctl
from tests.fixtures.dead import bury

pytestmark = pytest.mark.emulator

DDL = ("CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)",)


@pytest.fixture(scope="module")
def made(emulator: str) -> Iterator[str]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database:
        schema.install(database, ["T"])
    yield name
    raw.drop_database(emulator, name)


@pytest.fixture
def database(emulator: str, made: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A ledger without open leases, which the commands find as well."""
    monkeypatch.setenv("SPANCTL_PROJECT", PROJECT)
    monkeypatch.setenv("SPANCTL_INSTANCE", INSTANCE)
    monkeypatch.setenv("SPANCTL_DATABASE", made)
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", emulator)
    with Database(raw.target(emulator, made)) as database:
        yield database
        leases.close(database, [one.intent_id for one in limbo.open_leases(database)])


Leave = Callable[..., list[Call]]


@pytest.fixture
def leave(database: Database) -> Leave:
    """Return a function that leases calls as an executor which was killed then."""

    def leased(count: int = 1, *, root_run: str | None = None, alive: bool = False) -> list[Call]:
        root = root_run or f"job-{uuid.uuid4()}"
        run = Run(database, root, provenance=Provenance(root_run=root_run))
        calls = run.lease([OperationKey(root, (), "pay", str(n)) for n in range(count)])
        if not alive:
            bury(run)
        return calls

    return leased


def items(result: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(result.stdout)["items"]
    return found


def test_nothing_in_limbo_is_an_empty_list_and_exit_0(spanctl: Spanctl, database: Database) -> None:
    """Fit for a cron alarm: silent and 0 when all is well."""
    assert database.ledger
    result = spanctl("txn", "list", "--unresolved", "-o", "name")
    assert (result.exit_code, result.stdout) == (0, "")
    result = spanctl("txn", "resolve", "--all", "-o", "json")
    assert (result.exit_code, items(result)) == (0, [])


def test_after_death_limbo_is_listed_resolved_and_gone(
    spanctl: Spanctl, database: Database, leave: Leave
) -> None:
    """Listed with exit 9, resolved with exit 0, then nothing is left and its leases are closed."""
    calls = leave(3)
    with Run(database, calls[0].key.root) as run:
        done = run.step("pay", lambda _: None, key="0")
    result = spanctl("txn", "list", "--unresolved", "-o", "json")
    assert result.exit_code == 9
    rows = items(result)
    assert [row["txn_id"] for row in rows] == [calls[1].txn_id, calls[2].txn_id]
    assert {(row["state"], row["owner"]) for row in rows} == {("limbo", "gone")}
    assert rows[0]["step"] == "pay=1"
    assert rows[0]["age"] >= 0
    assert "is gone" in rows[0]["note"]
    assert "spanctl txn resolve --all" in result.stderr
    result = spanctl("txn", "resolve", "--all", "--reason", "the host is gone", "-o", "json")
    assert result.exit_code == 0
    assert [(row["txn_id"], row["outcome"], row["how"]) for row in items(result)] == [
        (call.txn_id, "NOT_COMMITTED", "fenced") for call in calls[1:]
    ]
    result = spanctl("txn", "list", "--unresolved", "-o", "name")
    assert (result.exit_code, result.stdout) == (0, "")
    assert limbo.open_leases(database) == []
    fenced = receipts.get(database, calls[1].txn_id)
    assert fenced is not None
    assert fenced.provenance.reason == "the host is gone"
    kept = receipts.get(database, done.txn_id)
    assert kept is not None
    assert kept.kind is EntryKind.COMMITTED


def test_what_is_alive_is_in_flight_and_spared(
    spanctl: Spanctl, database: Database, leave: Leave
) -> None:
    """No alarm and no fence for a run that goes on, unless --force says so."""
    (call,) = leave(alive=True)
    result = spanctl("txn", "list", "-o", "json")
    assert [(row["state"], row["owner"]) for row in items(result)] == [("in_flight", "alive")]
    assert spanctl("txn", "list", "--unresolved").exit_code == 0
    result = spanctl("txn", "resolve", "--all", "-o", "json")
    assert result.exit_code == 0
    assert [(row["outcome"], row["how"]) for row in items(result)] == [("UNKNOWN", "left")]
    assert "1 in flight" in result.stderr
    result = spanctl("txn", "resolve", call.txn_id)
    assert result.exit_code == 6
    assert "its executor is alive" in result.stderr
    assert receipts.get(database, call.txn_id) is None
    result = spanctl("txn", "resolve", call.txn_id, "--force", "-o", "json")
    assert result.exit_code == 0
    assert [row["outcome"] for row in items(result)] == ["NOT_COMMITTED"]


def test_unreachable_prefect_is_said_and_the_process_decides(
    spanctl: Spanctl, database: Database, leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a dead executor holds is in limbo whatever Prefect says: its fences close it."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    (call,) = leave(root_run=str(uuid.uuid4()))
    result = spanctl("txn", "list", "--unresolved", "-o", "json")
    assert result.exit_code == 9
    assert [row["owner"] for row in items(result)] == ["gone"]
    assert "which runs have ended isn't known" in result.stderr
    assert spanctl("txn", "resolve", "--all").exit_code == 0
    entry = receipts.get(database, call.txn_id)
    assert (entry and entry.kind) is EntryKind.FENCED
    left = spanctl("txn", "list", "--unresolved")
    assert (left.exit_code, "which runs have ended isn't known" in left.stderr) == (3, True)
    monkeypatch.delenv("PREFECT_API_URL")
    assert spanctl("txn", "resolve", "--all").exit_code == 0
    assert spanctl("txn", "list", "--unresolved").exit_code == 0


def test_resolving_what_is_settled_says_so(spanctl: Spanctl, database: Database) -> None:
    """A receipt is the answer, by prefix as well."""
    done = Run(database, f"job-{uuid.uuid4()}").step("pay", lambda _: None)
    result = spanctl("txn", "resolve", done.txn_id[:13], "-o", "json")
    assert result.exit_code == 0
    (row,) = items(result)
    assert (row["txn_id"], row["outcome"], row["how"]) == (done.txn_id, "COMMITTED", "found")


def test_fence_closes_and_reopen_opens(spanctl: Spanctl, database: Database, leave: Leave) -> None:
    """An operation that is fenced by hand is refused with exit 6 until it is reopened."""
    (call,) = leave(alive=True)
    run = Run(database, call.key.root)
    result = spanctl("txn", "fence", call.txn_id[:8], "--reason", "wrong", "-o", "name")
    assert (result.exit_code, result.stdout) == (0, f"{call.txn_id}\n")
    with pytest.raises(KeyClosedError):
        run.step("pay", lambda _: None, key="0")
    again = spanctl("txn", "fence", call.txn_id, "-o", "json")
    assert [row["how"] for row in items(again)] == ["found"]
    result = spanctl("txn", "reopen", call.txn_id, "--reason", "right after all", "-o", "json")
    assert result.exit_code == 0
    (row,) = items(result)
    assert (row["reopens"], row["reason"]) == (call.txn_id, "right after all")
    assert receipts.get(database, row["recorded_by"]) is not None
    assert run.step("pay", lambda _: None, key="0").txn_id == row["txn_id"]
    for verb in (("fence",), ("reopen", "--reason", "again")):
        refused = spanctl("txn", verb[0], call.txn_id, *verb[1:])
        assert refused.exit_code == 6
        assert row["txn_id"] in refused.stderr


def test_what_was_reopened_stays_open(spanctl: Spanctl, database: Database, leave: Leave) -> None:
    """Its dead executor's leases are still open for another: resolving all leaves it as it is."""
    reopened, other = leave(2)
    spanctl("txn", "fence", reopened.txn_id, "--reason", "wrong")
    spanctl("txn", "reopen", reopened.txn_id, "--reason", "right after all")
    listed = spanctl("txn", "list", "--unresolved", "-o", "name")
    assert (listed.exit_code, listed.stdout.split()) == (9, [other.txn_id])
    resolved = spanctl("txn", "resolve", "--all", "-o", "name")
    assert (resolved.exit_code, resolved.stdout.split()) == (0, [other.txn_id])
    assert limbo.open_leases(database) == []
    result = Run(database, reopened.key.root).step("pay", lambda _: None, key="0")
    assert result.txn_id == Call(reopened.key, 1).txn_id


def test_what_was_reopened_is_its_living_executors(
    spanctl: Spanctl, database: Database, leave: Leave
) -> None:
    """It may still come to it: resolving it by name spares it; its way on is named."""
    (call,) = leave(alive=True)
    spanctl("txn", "fence", call.txn_id, "--reason", "wrong")
    spanctl("txn", "reopen", call.txn_id, "--reason", "right after all")
    assert spanctl("txn", "list", "--unresolved").exit_code == 0
    spared = spanctl("txn", "resolve", str(call.key), "-o", "json")
    assert (spared.exit_code, "its executor is alive" in spared.stderr) == (6, True)
    result = Run(database, call.key.root).step("pay", lambda _: None, key="0")
    assert result.txn_id == Call(call.key, 1).txn_id


def test_audit_tells_of_a_fence_what_it_means_now(
    spanctl: Spanctl, database: Database, leave: Leave
) -> None:
    """Closed, then open, then committed under another ID: each with the next command."""

    def audited(txn_id: str) -> tuple[str, str, str, list[str]]:
        shown = spanctl("audit", txn_id, "-o", "json")
        assert shown.exit_code == 0
        data = json.loads(shown.stdout)
        commands = [one["command"] for one in data["next"]]
        return data["outcome"], data["fenced_by"], data["operation_now"], commands

    (call,) = leave()
    fenced, later = call.txn_id, Call(call.key, 1).txn_id
    spanctl("txn", "fence", fenced)
    *told, commands = audited(fenced)
    assert told == ["NOT_COMMITTED", "operator", "closed"]
    assert f"spanctl txn reopen {fenced} --reason WHY" in commands
    opened = spanctl("txn", "reopen", fenced, "--reason", "why not", "-o", "json")
    *told, commands = audited(fenced)
    assert told == ["NOT_COMMITTED", "operator", "open"]
    recorded = spanctl("audit", items(opened)[0]["recorded_by"], "-o", "json")
    assert json.loads(recorded.stdout)["reopens"] == fenced
    Run(database, call.key.root).step("pay", lambda _: None, key="0")
    *told, commands = audited(fenced)
    assert told == ["NOT_COMMITTED", "operator", "committed"]
    assert f"spanctl audit {later}" in commands


def test_an_operation_is_fenced_by_its_key_before_it_runs(
    spanctl: Spanctl, database: Database
) -> None:
    """Nothing leases it yet: its key is enough."""
    root = f"job-{uuid.uuid4()}"
    assert spanctl("txn", "fence", f"{root}/pay=7").exit_code == 0
    with pytest.raises(KeyClosedError):
        Run(database, root).step("pay", lambda _: None, key="7")


def test_all_of_a_run_is_resolved_and_reopened_at_once(
    spanctl: Spanctl, database: Database, leave: Leave
) -> None:
    """By the run's id; other runs are left alone."""
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    calls = leave(3, root_run=mine)
    leave(root_run=other)
    result = spanctl("txn", "resolve", "--flow-run", mine, "--force", "-o", "name")
    assert result.stdout.split() == [call.txn_id for call in calls]
    assert [one.root_run for one in limbo.unsettled(database, limbo.open_leases(database))] == [
        other
    ]
    result = spanctl("txn", "reopen", "--flow-run", mine, "--reason", "retry", "-o", "json")
    assert {row["reopens"] for row in items(result)} == {call.txn_id for call in calls}
    again = spanctl("txn", "reopen", "--flow-run", mine, "--reason", "retry", "-o", "json")
    assert (again.exit_code, items(again)) == (0, [])


def test_filters(spanctl: Spanctl, leave: Leave) -> None:
    """By owner, step, age and run; nothing fits is an empty list."""
    (dead,) = leave()
    (alive,) = leave(alive=True)

    def listed(*args: str) -> set[str]:
        return set(spanctl("txn", "list", "-o", "name", *args).stdout.split())

    assert listed() == {dead.txn_id, alive.txn_id}
    assert listed("--owner", "gone") == {dead.txn_id}
    assert listed("--step", "pay=0") == {dead.txn_id, alive.txn_id}
    assert listed("--step", "collect") == set()
    assert listed("--older-than", "1h") == set()
    assert listed("--flow-run", alive.key.root) == {alive.txn_id}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("resolve",), 2),
        (("resolve", "deadbeef", "--all"), 2),
        (("resolve", "deadbeef"), 5),
        (("fence", "deadbeef"), 5),
        (("fence", ""), 5),
        (("reopen", "deadbeef"), 2),
        (("reopen", "--reason", "x"), 2),
        (("reopen", "deadbeef", "--reason", " "), 2),
        (("reopen", "deadbeef", "--reason", "x"), 5),
        (("list", "--owner", "me"), 2),
        (("list", "--fields", "x"), 2),
    ],
)
@pytest.mark.usefixtures("database")
def test_mistakes(spanctl: Spanctl, args: tuple[str, ...], code: int) -> None:
    """Each has its code, one line and what to do."""
    result = spanctl("txn", *args)
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith("error: ")


def test_on_a_terminal(terminal: Callable[..., Ended], leave: Leave) -> None:
    """IDs are whole at any width."""
    (call,) = leave()
    for columns in (50, 200):
        shown = terminal("txn", "list", columns=columns, env={"NO_COLOR": "1"}).stdout
        assert call.txn_id in shown
        assert "limbo" in shown


def test_a_pid_is_no_quantity() -> None:
    """People get a pid as they would type it after kill, without separators."""
    (column,) = [one for one in facts.LISTED if one.key == "pid"]
    assert text(17945, column.kind).plain == "17945"


def test_verbose_shows_each_rpc_and_nothing_of_what_is_in_it(
    spanctl: Spanctl, leave: Leave, emulator: str, made: str
) -> None:
    """Reads and the commit of a fence, each with its status; neither SQL nor values."""
    (call,) = leave()
    result = spanctl("--verbose", "txn", "fence", call.txn_id, "--reason", "canary-4711")
    assert result.exit_code == 0, result.stderr
    shown = [line for line in result.stderr.splitlines() if line.startswith("request: ")]
    told = {line.split(" in ")[0] for line in shown}
    where = f"{emulator} projects/{PROJECT}/instances/{INSTANCE}/databases/{made}"
    assert f"request: spanner Commit at {where}: OK" in told
    assert f"request: spanner StreamingRead at {where}: OK" in told
    assert "canary" not in "".join(shown)
    assert call.txn_id not in "".join(shown)
