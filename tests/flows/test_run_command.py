"""``spanctl run`` from end to end: what it prints, its exit code, and what is in the database."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spanctl.spanner.client import Target
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, free_port, new_name
from tests.faults.proxy import FaultProxy, black_hole
from tests.fixtures.cli import Ended, Spanctl, child_environment
from tests.flows.bank import Bank

pytestmark = [pytest.mark.emulator, pytest.mark.prefect, pytest.mark.usefixtures("prefect")]

PLAIN = {"NO_COLOR": "1", "GRPC_VERBOSITY": "NONE"}
FLOWS = """
import contextlib
import threading

from prefect import flow, task
from spanctl.flows import transaction


@transaction
def pay(txn, account: str, cents: int) -> None:
    sql = "UPDATE accounts SET balance = balance + @n WHERE id = @id"
    txn.execute_update(sql, {"n": cents, "id": account})


@flow
def settle(cents: int = 5) -> None:
    pay("a", cents)
    pay("b", cents)


@flow
def named(account: str, note: str | None = None, cents: int = 5) -> None:
    assert (account, note, cents) == ("4711", "true", 7)


@task
def pages():
    yield "a"
    yield "b"


@flow
def crawl() -> None:
    for page in pages():
        pay(page, 5)


@flow
def yielding():
    yield pay("a", 5)


@flow
def unordered() -> None:
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, pay, "a", 5).result()


@flow
def careless() -> None:
    with contextlib.suppress(Exception):
        pay("a", 5)


@flow
def broken() -> None:
    pay("a", 5)
    raise RuntimeError("no such luck")
"""


@pytest.fixture
def flows(tmp_path: Path) -> str:
    path = tmp_path / "bank_flows.py"
    path.write_text(FLOWS, encoding="utf-8")
    return str(path)


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., str]:
    def write(*lines: str, name: str = "accounts.csv") -> str:
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return write


def refused(result: Any, code: int, told: str) -> None:
    """One clear line says why, stdout stays empty, and the exit code is that of the cause."""
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert told in lines[0]
    assert "Traceback" not in result.stderr


def untouched(bank: Bank) -> None:
    assert (bank.balance("a"), bank.balance("b")) == (0, 0)
    assert next(iter(bank.database.query("SELECT COUNT(*) FROM accounts"))) == (2,)
    assert bank.receipts() == []


def test_a_flow_in_a_file(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """Its transactions are listed with their IDs; its parameters and reason are used."""
    done = spanctl(
        "run", f"{flows}:settle", "-p", "cents=7", "--reason", "ticket 4711", "-o", "json"
    )
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["state"], data["committed"], data["rows"]) == ("Completed", 2, 2)
    shown = {one["txn_id"] for one in data["transactions"]}
    assert shown == {one.txn_id for one in bank.receipts()}
    assert {one.provenance.reason for one in bank.receipts()} == {"ticket 4711"}
    assert (bank.balance("a"), bank.balance("b")) == (7, 7)
    assert f"next: spanctl audit {data['flow_run']}" in done.stderr


def test_a_flow_under_an_idempotency_key(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """Typed again with the same key it does nothing; for another work the key is refused."""
    command = ("run", f"{flows}:settle", "--idempotency-key", "july")
    assert spanctl(*command).exit_code == 0
    again = spanctl(*command, "-o", "json")
    assert again.exit_code == 0
    assert [one["replayed"] for one in json.loads(again.stdout)["transactions"]] == [True, True]
    refused(spanctl(*command, "-p", "cents=6"), 6, "another flow, or with other parameters")
    other = ("run", "sql", "-e", "UPDATE accounts SET v = 0 WHERE TRUE", "--yes")
    refused(spanctl(*other, "--idempotency-key", "july"), 6, "'july' was used for flow settle")
    refused(spanctl("run", f"{flows}:broken", "--idempotency-key", "july"), 6, "flow settle")
    assert (bank.balance("a"), len(bank.receipts())) == (5, 2)


def test_parameters_are_what_the_flow_declares(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """Digits and true are text for a str."""
    typed = ("-p", "account=4711", "-p", "note=true", "-p", "cents=007")
    done = spanctl("run", f"{flows}:named", *typed)
    assert done.exit_code == 0, done.stderr
    refused(spanctl("run", f"{flows}:named", "-p", "account=1", "-p", "cents=x"), 2, "cents")
    untouched(bank)


def test_a_loop_over_a_generator_task(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """Steps that are called in it run; a flow that is a generator itself is refused by name."""
    done = spanctl("run", f"{flows}:crawl", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["committed"] == 2
    refused(spanctl("run", f"{flows}:yielding"), 2, "flow yielding is a generator")
    assert (bank.balance("a"), bank.balance("b")) == (5, 5)


def test_a_step_that_can_t_be_declared_is_told_as_such(
    spanctl: Spanctl, bank: Bank, flows: str, tmp_path: Path
) -> None:
    """An error of ours in the file keeps its words and its exit code."""
    declared = tmp_path / "declared.py"
    text = Path(flows).read_text(encoding="utf-8")
    declared.write_text(text.replace("@transaction\n", "@transaction(result_storage_key='x')\n"))
    refused(spanctl("run", f"{declared}:settle"), 2, "step 'pay' can't have result_storage_key")
    untouched(bank)


def test_what_a_failed_flow_committed_is_not_denied(
    spanctl: Spanctl, bank: Bank, flows: str
) -> None:
    """A flow that fails after a transaction ends with 1; the receipt is there."""
    refused(spanctl("run", f"{flows}:broken"), 1, "ended as Failed with RuntimeError")
    assert (bank.balance("a"), len(bank.receipts())) == (5, 1)


@pytest.mark.parametrize("flow", ["settle", "careless"])
def test_an_open_outcome_is_the_exit_code(  # noqa: PLR0913, PLR0917 - fixtures
    spanctl: Spanctl,
    emulator: str,
    bank: Bank,
    flows: str,
    flow: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """UNKNOWN ends with 9 and names the transaction, also when the flow hides it."""
    from spanctl.spanner import operation

    monkeypatch.setattr(operation.TransactionOptions, "__init__", _short(operation))
    with FaultProxy(emulator) as proxy:
        monkeypatch.setenv("SPANNER_EMULATOR_HOST", proxy.address)
        target = Target(database=bank.target.database, emulator_host=proxy.address)
        proxy.add("Commit", black_hole(), count=None, when=_receipts)
        done = spanctl("run", f"{flows}:{flow}")
        refused(done, 9, "UNKNOWN")
        from spanctl.spanner.client import shared

        shared(target).close()
    assert "spanctl txn resolve " in done.stderr
    untouched(bank)


def _receipts(peek: Any) -> bool:
    return "spanctl_receipts" in peek.writes


def _short(operation: Any) -> Callable[..., None]:
    """Make every operation give up after a second."""
    usual = operation.TransactionOptions.__init__

    def init(self: Any, **options: Any) -> None:
        usual(self, **{**options, "deadline": 1.0, "rpc_timeout": 0.3, "resolve_timeout": 0.5})

    return init


def test_a_call_without_a_key_where_one_is_needed(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """A step that is called in a thread is refused by name."""
    refused(spanctl("run", f"{flows}:unordered"), 2, "step 'pay' needs key=")
    untouched(bank)


@pytest.mark.parametrize(
    ("target", "code", "told"),
    [
        ("nowhere.py:settle", 5, "there is no file nowhere.py"),
        ("no_such_package.flows:settle", 5, "module no_such_package can't be found"),
        ("{flows}:stettle", 5, "has no flow 'stettle'"),
        ("settle", 2, "'settle' names no flow"),
        ("settle/nightly", 5, "there is no deployment 'settle/nightly'"),
    ],
)
def test_a_target_that_is_none(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl, bank: Bank, flows: str, target: str, code: int, told: str
) -> None:
    """Files, modules, flows and deployments that don't exist are named."""
    refused(spanctl("run", target.format(flows=flows)), code, told)
    untouched(bank)


@pytest.mark.parametrize(
    ("given", "told"),
    [("cents=much", "refuses its parameters"), ("pence=1", "has no parameter pence")],
)
def test_a_parameter_that_the_flow_does_not_take(
    spanctl: Spanctl, bank: Bank, flows: str, given: str, told: str
) -> None:
    """Parameters are checked before anything runs; their values are not repeated."""
    done = spanctl("run", f"{flows}:settle", "-p", given)
    refused(done, 2, told)
    assert "much" not in done.stderr
    untouched(bank)


def test_a_plan_starts_nothing(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """``--dry-run`` of a flow names flow, parameters and database, and runs nothing."""
    done = spanctl("run", f"{flows}:settle", "-p", "cents=7", "--dry-run", "-o", "json")
    assert done.exit_code == 0
    plan = json.loads(done.stdout)
    assert (plan["flow"], plan["parameters"]) == ("settle", "cents=7")
    assert plan["database"] == str(bank.target.database)
    untouched(bank)


# -- run sql


def test_a_dry_run_counts_the_rows_beside_a_query(spanctl: Spanctl, bank: Bank) -> None:
    """A query among the statements doesn't hide what the others would have changed."""
    query, change = "SELECT id FROM accounts WHERE id = 'a'", "DELETE FROM accounts WHERE true"
    asked = ("run", "sql", "-e", query, "-e", change, "--dry-run")
    done = spanctl(*asked, "-o", "json")
    assert done.exit_code == 0
    result = json.loads(done.stdout)
    assert (result["dry_run"], result["txn_id"]) == (True, None)
    assert [one["rows"] for one in result["statements"]] == [None, result["rows"]]
    assert result["rows"] > 0
    assert result["returned_1"] == [{"id": "a"}]
    gone = {"table": "accounts", "change": "DELETE", "before": {"balance": 0}, "after": None}
    assert result["sample"] == [{**gone, "keys": {"id": name}} for name in "ab"]
    told = spanctl(*asked).stdout.splitlines()
    assert 'accounts\tDELETE\t{"id": "a"}\t{"balance": 0}\t' in told
    untouched(bank)


def test_sql_with_an_error(spanctl: Spanctl, bank: Bank) -> None:
    """The statement's line is named, not its text; the transaction as a whole is undone."""
    good = "UPDATE accounts SET balance = 4711 WHERE id = 'a';"
    done = spanctl("run", "sql", "-e", f"{good}\nUPDATE accounts SET nope = 4711 WHERE id = 'a'")
    refused(done, 1, "statement 2 in line 2: Spanner answered INVALID_ARGUMENT")
    assert "4711" not in done.stderr
    assert "Unrecognized name: nope" in done.stderr
    assert "on a terminal, Spanner's own words are shown" in done.stderr
    untouched(bank)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("CREATE INDEX made_by ON made (nope)", "key column nope which does not exist"),
        (
            "CREATE TABEL made_too (a STRING(9) DEFAULT ('4711'))",
            "Syntax error on line 1, column 8",
        ),
        ("DROP TABLE nope", "Table not found: nope"),
        ("ALTER TABLE accounts ADD COLUMN more INT64 NOT NULL", "NOT NULL column accounts.more"),
    ],
)
@pytest.mark.usefixtures("bank")
def test_ddl_that_is_refused_names_its_statement(spanctl: Spanctl, bad: str, why: str) -> None:
    """Of a batch the statement that was refused is told, and why, without a literal."""
    made, other = (f"CREATE TABLE {name} (a INT64) PRIMARY KEY (a)" for name in ("made", "x"))
    batch = f"{made};\n{bad};\n{other}"
    done = spanctl("run", "sql", "--ddl", "-e", batch, "--yes")
    refused(done, 1, "statement 2 in line 2: Spanner answered")
    assert why in done.stderr
    assert "4711" not in done.stderr


def test_why_a_step_was_refused_is_in_the_log(spanctl: Spanctl, bank: Bank, flows: str) -> None:
    """In a pipe as in JSON, with the table and the column, without the value."""
    typed = Path(flows).with_name("typed.py")
    text = Path(flows).read_text(encoding="utf-8")
    wrong = text.replace("SET balance = balance + @n", "SET nope = 4711 + @n")
    typed.write_text(wrong, encoding="utf-8")
    refused(spanctl("run", f"{typed}:settle"), 1, "Unrecognized name: nope")
    told = spanctl("run", f"{typed}:settle", "-o", "json")
    error = json.loads(told.stderr)["error"]
    assert "Unrecognized name: nope" in error["message"]
    assert "4711" not in told.stderr
    untouched(bank)


@pytest.mark.parametrize(
    ("flag", "kind", "good", "bad"),
    [
        ("--ddl", "ddl", "CREATE TABLE made (a INT64) PRIMARY KEY (a)", "DROP TABLE nope"),
        (
            "--partitioned",
            "partitioned dml",
            "UPDATE accounts SET balance = 0 WHERE true",
            "UPDATE accounts SET balance = CAST(1 / 0 AS INT64) WHERE true",
        ),
    ],
)
@pytest.mark.usefixtures("bank")
def test_what_is_outside_of_transactions_is_told_as_it_ended(  # noqa: PLR0913, PLR0917 - cases
    spanctl: Spanctl,
    terminal: Callable[..., Ended],
    flag: str,
    kind: str,
    good: str,
    bad: str,
) -> None:
    """DDL and partitioned DML that failed is nowhere told as if it had been done."""
    done = spanctl("run", "sql", flag, "-e", bad, "--yes")
    refused(done, 1, "statement 1 in line 1: Spanner answered")
    told = re.findall(rf"^({kind} \w+) (\S+) at least once$", done.stderr, re.MULTILINE)
    assert [step for step, _ in told] == [f"{kind} started", f"{kind} failed"]
    for _, txn_id in told:
        lines = spanctl("audit", txn_id).stdout.splitlines()
        assert "at_least_once\tfailed" in lines
        page = terminal("audit", txn_id, columns=100, env=PLAIN).stdout
        assert "  at least once: failed (" in page
        assert "✗" in page
        assert "COMMITTED" not in page
        assert "init --table nope" not in page
    items = json.loads(spanctl("audit", "list", "-o", "json").stdout)["items"]
    ended, started = [one for one in items if one["step"].startswith(kind)]
    assert ended["changes"].endswith(": failed")
    assert started["changes"].endswith(": started")
    for columns in (80, 160):
        listed = terminal("audit", "list", columns=columns, env=PLAIN).stdout
        assert "COMMITTED" not in listed.split(told[0][1])[0].split(told[1][1])[-1]
    done = spanctl("run", "sql", flag, "-e", good, "--yes", "-o", "json")
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["outcome"], result["commit_timestamp"]) == ("AT_LEAST_ONCE", None)
    for txn_id in (result["txn_id"], result["finished_by"]):
        lines = spanctl("audit", txn_id).stdout.splitlines()
        assert {"at_least_once\tfinished", "outcome\tAT_LEAST_ONCE"} <= {*lines}
    run = terminal("audit", result["flow_run"], columns=100, env=PLAIN).stdout
    assert f"{kind} finished" in run
    assert told_alike(spanctl, terminal, result["flow_run"], result["finished_by"])
    least = flag == "--partitioned"
    assert (result["rows_at_least"], result["idempotent"]) == (least, "checked" if least else None)
    assert bool(result["operation"]) is not least
    told = json.loads(spanctl("audit", result["finished_by"], "-o", "json").stdout)
    same = ("operation", "rows_at_least", "idempotent")
    assert [told[name] for name in same] == [result[name] for name in same]
    for columns in (80, 160):
        page = terminal("audit", result["finished_by"], columns=columns, env=PLAIN).stdout
        assert (bool(re.search(r"at least 2 rows|\b2\+", page))) is least


def told_alike(
    spanctl: Spanctl, terminal: Callable[..., Ended], flow_run: str, txn_id: str
) -> bool:
    """Whether lists in every format, and their filter, give this entry as AT_LEAST_ONCE."""
    items = json.loads(spanctl("audit", "list", "-o", "json").stdout)["items"]
    items += json.loads(spanctl("audit", flow_run, "-o", "json").stdout)["transactions"]
    outcomes = [one["outcome"] for one in items if one["txn_id"] == txn_id]
    for args in (("list",), (flow_run,)):
        lines = terminal("audit", *args, columns=160, env=PLAIN).stdout.splitlines()
        (line,) = [line for line in lines if line.strip().startswith(f"{txn_id}  ")]
        outcomes.append("AT_LEAST_ONCE" if "  AT_LEAST_ONCE  " in line else line)
    listed = spanctl("audit", "list", "--outcome", "at_least_once", "-o", "name").stdout
    others = spanctl("audit", "list", "--outcome", "committed", "-o", "name").stdout
    return {*outcomes} == {"AT_LEAST_ONCE"} and txn_id in listed and txn_id not in others


@pytest.mark.usefixtures("bank")
def test_ddl_without_an_answer_has_no_known_end(
    spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither finished nor failed is claimed of what may have been applied."""
    from spanctl.errors import UnreachableError
    from spanctl.spanner import admin

    def lost(*_args: Any, **_options: Any) -> str:
        msg = "Spanner did not answer"
        raise UnreachableError(msg)

    monkeypatch.setattr(admin, "execute_ddl", lost)
    refused(
        spanctl("run", "sql", "--ddl", "-e", "DROP TABLE accounts", "--yes"), 3, "did not answer"
    )
    items = json.loads(spanctl("audit", "list", "-o", "json").stdout)["items"]
    assert [one["step"] for one in items[:2]] == ["ddl end unknown", "ddl started"]
    for one in items[:2]:
        shown = json.loads(spanctl("audit", one["txn_id"], "-o", "json").stdout)
        assert shown["at_least_once"] == "started, end unknown"


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("missing.sql",), 5, "there is no file missing.sql"),
        (("-e", "UPDATE accounts SET balance = 1 WHERE id = 'a"), 2, "is never closed"),
        (("-e", "DROP TABLE accounts"), 2, "is DDL"),
        (("-e", "DELETE FROM spanctl_receipts WHERE true"), 2, "changes spanctl_receipts"),
        (("--ddl", "-e", "DROP CHANGE STREAM spanctl_changes"), 2, "changes spanctl_changes"),
        (("--ddl", "-e", "DROP INDEX spanctl_receipts_by_time"), 2, "spanctl_receipts_by_time"),
        (("-e", "DELETE FROM accounts WHERE id = @id"), 2, "parameter @id has no value"),
        (("-e", "SELECT @n", "-p", "n:INT64=x1y2"), 2, "parameter n is no whole number"),
    ],
)
def test_sql_that_is_not_run(
    spanctl: Spanctl, bank: Bank, args: tuple[str, ...], code: int, told: str
) -> None:
    """What can't be run is refused before Spanner sees any of it."""
    done = spanctl("run", "sql", *args)
    refused(done, code, told)
    assert "x1y2" not in done.stderr
    untouched(bank)


def test_a_view_of_the_ledger_may_be_made(spanctl: Spanctl, bank: Bank) -> None:
    """Reading the ledger is no change of it."""
    view = "CREATE VIEW mine SQL SECURITY INVOKER AS SELECT r.txn_id FROM spanctl_receipts AS r"
    assert spanctl("run", "sql", "--ddl", "-e", view).exit_code == 0
    assert list(bank.database.query("SELECT COUNT(*) FROM mine"))


# -- run import


@pytest.mark.parametrize(
    ("lines", "table", "code", "told"),
    [
        (("id,balance,colour", "c,1,red"), "accounts", 2, "colour"),
        (("id,balance", "c,1", "d,lots"), "accounts", 2, "line 3: balance is no whole number"),
        (("id,balance", "c,1"), "acounts", 5, "there is no table acounts"),
        (("id,balance", "c,1"), "spanctl_receipts", 2, "belongs to the ledger"),
        (("id", "c"), "accounts", 2, "the header lacks balance"),
    ],
)
def test_a_file_that_does_not_fit(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    bank: Bank,
    rows: Callable[..., str],
    lines: tuple[str, ...],
    table: str,
    code: int,
    told: str,
) -> None:
    """The whole file is checked first: nothing of it is written, and no value is repeated."""
    done = spanctl("run", "import", rows(*lines), "--table", table)
    refused(done, code, told)
    assert "lots" not in done.stderr
    # What header and table tell at a glance is told before there is a run.
    assert ("flow run" in done.stderr) == ("line 3" in told)
    untouched(bank)


@pytest.mark.parametrize("options", [("--delimiter", "::"), ("--chunk-rows", "99999")])
def test_options_that_do_not_fit(
    spanctl: Spanctl, bank: Bank, rows: Callable[..., str], options: tuple[str, ...]
) -> None:
    """They are refused before there is a run."""
    path = rows("id,balance", "c,1")
    done = spanctl("run", "import", path, "--table", "accounts", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "flow run" not in done.stderr
    untouched(bank)


def test_a_file_of_somebody_else_in_the_place_of_the_rejects(
    spanctl: Spanctl, bank: Bank, rows: Callable[..., str], tmp_path: Path
) -> None:
    """It is refused before anything runs, and stays as it is; another place can be named."""
    theirs = tmp_path / "accounts.rejects.csv"
    theirs.write_text("salary,name\n1,ada\n", encoding="utf-8")
    command = ("run", "import", rows("id,balance", "c,lots"), "--table", "accounts")
    done = spanctl(*command)
    refused(done, 6, "is no file of bad rows")
    assert "--rejects PATH" in done.stderr
    assert "flow run" not in done.stderr
    assert theirs.read_text(encoding="utf-8") == "salary,name\n1,ada\n"
    place = str(tmp_path / "mine.csv")
    for _ in range(2):  # ours is replaced
        done = spanctl(*command, "--rejects", place)
        refused(done, 2, "can't be imported")
        assert "or pass --skip-bad 1" in done.stderr
    untouched(bank)


def test_a_file_that_is_not_there(spanctl: Spanctl, bank: Bank) -> None:
    """A missing file is named."""
    refused(spanctl("run", "import", "gone.csv", "--table", "accounts"), 5, "no file gone.csv")
    untouched(bank)


def test_an_import_twice(spanctl: Spanctl, bank: Bank, rows: Callable[..., str]) -> None:
    """The same command once more says so and writes nothing."""
    command = ("run", "import", rows("id,balance", "c,1", "d,2"), "--table", "accounts")
    first = spanctl(*command, "-o", "json")
    assert (first.exit_code, json.loads(first.stdout)["written"]) == (0, 2)
    again = spanctl(*command, "-o", "json")
    assert (again.exit_code, json.loads(again.stdout)["written"]) == (0, 0)
    run = json.loads(first.stdout)["flow_run"]
    assert f"already imported by {run}" in again.stderr
    assert f"next: spanctl audit {run}\n" in first.stderr
    assert f"next: spanctl audit {run}\n" in again.stderr
    items = json.loads(spanctl("audit", "list", "-o", "json").stdout)["items"]
    assert [(one["step"], one["rows"]) for one in items if one["flow"] == "import"] == [
        ("finish", 0),
        ("chunk", 2),
        ("plan", 0),
    ]
    assert next(iter(bank.database.query("SELECT COUNT(*) FROM accounts"))) == (4,)


def test_an_import_of_two_at_once(
    spanctl: Spanctl,
    child: Callable[..., Ended],
    bank: Bank,
    rows: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that comes second says who finished the import, and how many rows are its own."""
    from spanctl.flows import importing

    path = rows("id,balance", *(f"n{number},1" for number in range(300)))
    command = ("run", "import", path, "--table", "accounts", "--chunk-rows", "100", "-o", "json")
    original, firsts = importing.write, []

    def overtaken(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(importing, "write", original)
        firsts.append(child(*command))  # the other one, whole, before this one's first chunk
        return original(*args, **options)

    monkeypatch.setattr(importing, "write", overtaken)
    second = spanctl(*command)
    (first,) = firsts
    won, lost = json.loads(first.stdout), json.loads(second.stdout)
    assert (won["written"], won["present"]) == (300, 0)
    assert (lost["written"], lost["present"]) == (0, 300)
    assert won["imported_by"] == lost["imported_by"] == won["flow_run"] != lost["flow_run"]
    assert "0 rows written by this run, 300 by others" in second.stderr
    assert f"next: spanctl audit {won['flow_run']}" in second.stderr
    assert next(iter(bank.database.query("SELECT COUNT(*) FROM accounts"))) == (302,)


@pytest.mark.parametrize(("signal_", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_import(
    spanctl: Spanctl,
    bank: Bank,
    rows: Callable[..., str],
    signal_: signal.Signals,
    code: int,
) -> None:
    """It says how many rows are in and that the same command goes on, which it does."""
    path = rows("id,balance", *(f"n{number},1" for number in range(20_000)))
    command = ("run", "import", path, "--table", "accounts", "--chunk-rows", "100")
    process = subprocess.Popen(
        [sys.executable, "-m", "spanctl_cli.main", *command],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    count = "SELECT COUNT(*) FROM accounts"
    while next(iter(bank.database.query(count)))[0] < 500:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal_)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (code, "")
    assert "of 20,000 rows are in; the same command goes on from there" in err
    (there,) = next(iter(bank.database.query(count)))
    done = spanctl(*command, "-o", "json")
    result = json.loads(done.stdout)
    assert (result["present"], result["written"]) == (there - 2, 20_002 - there)
    assert f"{result['written']:,} rows written by this run" in done.stderr


def test_an_import_interrupted_while_it_is_checked(
    spanctl: Spanctl, bank: Bank, rows: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written, and that is said."""
    from spanctl.flows import importing

    def interrupted(*_args: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importing.ImportJob, "validate", interrupted)
    done = spanctl("run", "import", rows("id,balance", "c,1"), "--table", "accounts")
    assert (done.exit_code, done.stdout) == (130, "")
    assert "nothing was written by this run; the same command goes on" in done.stderr
    untouched(bank)


# -- surroundings


COMMANDS = (("run", "sql", "-e", "SELECT 1"), ("run", "{flows}:settle"), ("audit", "list"))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one[1])
@pytest.mark.usefixtures("bank")
def test_nothing_is_set_up(
    spanctl: Spanctl, flows: str, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a context, or a database in the environment, the next command to type is named."""
    for name in ("PROJECT", "INSTANCE", "DATABASE"):
        monkeypatch.delenv(f"SPANCTL_{name}")
    done = spanctl(*(part.format(flows=flows) for part in command))
    refused(done, 2, "is set")
    assert "hint: run: spanctl local up" in done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one[1])
def test_no_database_answers(
    spanctl: Spanctl,
    bank: Bank,
    flows: str,
    command: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stack that isn't running is told as such: 3, not an open outcome."""
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    refused(spanctl(*(part.format(flows=flows) for part in command)), 3, "did not answer")
    untouched(bank)


@pytest.mark.usefixtures("bank")
def test_a_database_of_the_other_dialect(
    spanctl: Spanctl, emulator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's dialect is refused by name."""
    from google.cloud.spanner_admin_database_v1.types import DatabaseDialect

    name = new_name()
    with raw.client(emulator) as client:
        dialect = DatabaseDialect.POSTGRESQL
        client.instance(INSTANCE).database(name, database_dialect=dialect).create().result(30)
    monkeypatch.setenv("SPANCTL_PROJECT", PROJECT)
    monkeypatch.setenv("SPANCTL_DATABASE", name)
    try:
        refused(spanctl("init"), 6, "PostgreSQL dialect")
    finally:
        raw.drop_database(emulator, name)


NOISY = """
import os
from prefect import flow

@flow
def noisy():
    os.write(1, b"from the descriptor\\n")
    os.system("echo from a child")
    print("printed")

@flow
def leaves():
    raise SystemExit(0)

@flow(name="two\\nlines")
def named():
    pass
"""


@pytest.fixture
def noisy(tmp_path: Path) -> str:
    """Return the path of a file of flows that misbehave."""
    path = tmp_path / "noisy.py"
    path.write_text(NOISY)
    return str(path)


@pytest.mark.usefixtures("bank")
def test_what_a_flow_s_children_write_is_no_result(child: Any, noisy: str) -> None:
    """Who writes to descriptor 1 meanwhile is read on stderr; under JSON nowhere."""
    done = child("run", f"{noisy}:noisy", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "Completed"
    told = child("run", f"{noisy}:noisy", "-o", "csv")
    for text in ("from the descriptor", "from a child"):
        assert text not in done.stderr
        assert text not in told.stdout
    table = child("run", f"{noisy}:noisy")
    assert table.exit_code == 0, table.stderr
    for text in ("from the descriptor", "from a child"):
        assert text in table.stderr
        assert text not in table.stdout


@pytest.mark.usefixtures("bank")
def test_a_flow_that_calls_sys_exit_has_crashed(spanctl: Spanctl, noisy: str) -> None:
    """It is no success, whatever number it exits with, and its run is named."""
    result = spanctl("run", f"{noisy}:leaves")
    assert result.exit_code == 12
    assert "sys.exit(0)" in result.stderr
    assert "hint: run: spanctl audit " in result.stderr


@pytest.mark.usefixtures("bank")
def test_a_flow_whose_name_has_two_lines_is_not_started(spanctl: Spanctl, noisy: str) -> None:
    """Such a name would break Prefect's requests in the middle of the run."""
    refused(spanctl("run", f"{noisy}:named"), 2, "control characters")


@pytest.mark.usefixtures("bank")
def test_a_prefect_server_that_goes_away_is_told_in_one_line(
    spanctl: Spanctl, flows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the API is lost during a run: exit 3, what to type, and what was committed stays."""
    import httpx

    from spanctl.flows import launch

    before = launch.run_flow

    def lost(*args: Any, **kwargs: Any) -> None:
        before(*args, **kwargs)
        msg = "gone"
        raise httpx.ConnectError(msg)

    monkeypatch.setattr(launch, "run_flow", lost)
    result = spanctl("run", f"{flows}:settle")
    assert result.exit_code == 3
    assert "stopped answering" in result.stderr
    assert "spanctl audit list --flow-run" in result.stderr
