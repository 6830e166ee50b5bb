"""``spanctl audit`` as people and scripts use it."""

import csv
import io
import json
import subprocess
import sys
import uuid
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from spanctl.audit.outside import Outside
from spanctl.ledger.phases import Phase
from spanctl.ledger.receipt import EntryKind, Provenance, Receipt, Standing, StatementKind
from spanctl.settings import state_home
from spanctl.spanner import receipts, schema
from spanctl.spanner.client import Database
from spanctl.spanner.run import Run
from spanctl_cli.views.trail_page import page
from tests.cli.trails import transaction_trail
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT, free_port
from tests.fixtures.cli import Ended, Spanctl, child_environment

pytestmark = pytest.mark.emulator

DDL = (
    "CREATE TABLE T (k INT64 NOT NULL, s STRING(MAX)) PRIMARY KEY (k)",
    "CREATE TABLE Quiet (k INT64 NOT NULL) PRIMARY KEY (k)",
)
RUN = str(uuid.uuid4())
# gRPC's own core may complain on stderr, which a terminal shares, when a process ends.
PLAIN = {"NO_COLOR": "1", "GRPC_VERBOSITY": "NONE"}
ORIGIN = Provenance(
    root_run=RUN,
    flow_run=RUN,
    flow="nightly",
    task="load",
    attempt=2,
    initiator="anna@example.com",
    executor="worker-1",
    reason="it was [bold]wrong[/bold]",
)


@dataclass(frozen=True)
class Ledger:
    """Transactions by what they did."""

    inserted: Receipt
    updated: Receipt
    partly: Receipt
    nothing: Receipt
    fenced: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def made(emulator: str) -> Iterator[Ledger]:
    name = raw.create_database(emulator, DDL)
    with Database(raw.target(emulator, name)) as database, Run(database, RUN) as run:
        schema.install(database, ["T"])
        run.provenance = ORIGIN

        def do(body: Callable[[Any], Any]) -> Receipt:
            receipt = receipts.get(database, run.step("step", body).txn_id)
            assert receipt is not None
            return receipt

        inserted = do(lambda txn: txn.insert("T", ("k", "s"), [(k, f"s{k}") for k in range(25)]))
        updated = do(lambda txn: txn.execute_update("UPDATE T SET s = '[red]é' WHERE k = 1"))
        partly = do(lambda txn: txn.insert("Quiet", ("k",), [(1,)]))
        run.provenance = replace(ORIGIN, root_run="other", flow_run=None)
        nothing = do(lambda _: None)
        fenced = Receipt(
            txn_id=str(uuid.uuid4()),
            kind=EntryKind.FENCED,
            commit_timestamp=datetime.now(UTC),
            operation_key="a/b#0",
            provenance=ORIGIN,
        )
        with raw.database(emulator, name) as google, google.batch() as batch:
            batch.insert(receipts.TABLE, receipts.COLUMNS, [receipts.row(fenced)])
    environment = {
        "SPANCTL_PROJECT": PROJECT,
        "SPANCTL_INSTANCE": INSTANCE,
        "SPANCTL_DATABASE": name,
        "SPANNER_EMULATOR_HOST": emulator,
    }
    yield Ledger(inserted, updated, partly, nothing, fenced.txn_id, environment)
    raw.drop_database(emulator, name)


@pytest.fixture
def ledger(made: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    for key, value in made.environment.items():
        monkeypatch.setenv(key, value)
    return made


def shown(spanctl: Spanctl, *args: str) -> Any:
    result = spanctl("audit", *args, "-o", "json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_json(spanctl: Spanctl, ledger: Ledger) -> None:
    """JSON holds outcome, time, identity, statements, rows, timeline and sources, by name."""
    data = shown(spanctl, ledger.updated.txn_id)
    assert data["schema"] == "spanctl.trail/v1"
    assert (data["outcome"], data["rows_changed"]) == ("COMMITTED", 1)
    assert (data["initiator"], data["executor"]) == ("anna@example.com", "worker-1")
    assert data["identity"] == "claimed"
    assert data["changes_complete"] is True
    assert data["rows"] == [
        {
            "table": "T",
            "change": "UPDATE",
            "keys": {"k": 1},
            "before": {"s": "s1"},
            "after": {"s": "[red]é"},
        }
    ]
    assert [one["rows"] for one in data["statements"]] == [1]
    assert [event["kind"] for event in data["timeline"]] == ["commit"]
    assert {one["source"]: one["coverage"] for one in data["sources"]} == {
        "ledger": "present",
        "identity": "disabled",
        "change_stream": "present",
        "prefect": "disabled",
        "cloud_audit_logs": "unsupported",
    }
    assert {"command": f"spanctl audit {RUN}"} in data["next"]


def test_literals_are_masked(spanctl: Spanctl, ledger: Ledger) -> None:
    """The statement is shown without its literals: the values are in the rows, or nowhere."""
    (statement,) = shown(spanctl, ledger.updated.txn_id)["statements"]
    assert "UPDATE T" in statement["sql"]
    assert "red" not in statement["sql"]


def test_prefix_and_options_before_it(spanctl: Spanctl, ledger: Ledger) -> None:
    """A prefix does, and options may stand before the ID as after it."""
    prefix = ledger.updated.txn_id[:8]
    before = spanctl("audit", "-o", "name", prefix)
    after = spanctl("audit", prefix, "-o", "name")
    assert before.stdout == after.stdout == f"{ledger.updated.txn_id}\n"


def test_unknown(spanctl: Spanctl, ledger: Ledger) -> None:  # noqa: ARG001 - its environment
    """An unknown ID exits 5, says so on stderr, and leaves stdout empty."""
    result = spanctl("audit", "ffffffff-0000")
    assert (result.exit_code, result.stdout) == (5, "")
    assert "spanctl audit list" in result.stderr


def test_an_error_is_alone_on_stderr(
    spanctl: Spanctl,
    terminal: Callable[..., Ended],
    ledger: Ledger,  # noqa: ARG001 - its environment
) -> None:
    """Under JSON stderr is one object, on a terminal too; in a pipe nothing is said of progress."""
    result = spanctl("audit", "abc12345", "-o", "json")
    assert json.loads(result.stderr)["error"]["code"] == "not_found"
    assert spanctl("audit", "abc12345").stderr.startswith("error: ")
    shown = terminal("audit", "abc12345", "-o", "json", env=PLAIN).stdout
    assert json.loads(shown)["error"]["exit_code"] == 5


def test_ambiguous(spanctl: Spanctl, ledger: Ledger, emulator: str) -> None:
    """A prefix of two transactions exits 6, and the JSON error lists both."""
    ids = [f"eeeeeee{digit}-0000-5000-8000-000000000000" for digit in "12"]
    ids += [f"eeeeeee1-0000-5000-8000-00000000000{digit}" for digit in "1"]
    rows = [receipts.row(replace(ledger.nothing, txn_id=txn_id)) for txn_id in ids]
    name = ledger.environment["SPANCTL_DATABASE"]
    with raw.database(emulator, name) as google, google.batch() as batch:
        batch.insert(receipts.TABLE, receipts.COLUMNS, rows)
    try:
        result = spanctl("audit", "eeeeeee1", "-o", "json")
        assert (result.exit_code, result.stdout) == (6, "")
        error = json.loads(result.stderr.splitlines()[-1])["error"]
        assert error["code"] == "ambiguous_id"
        assert error["details"]["candidates"] == [ids[0], ids[2]]
    finally:
        from google.cloud.spanner_v1 import KeySet

        with raw.database(emulator, name) as google, google.batch() as batch:
            batch.delete(receipts.TABLE, KeySet(keys=[[txn_id] for txn_id in ids]))


def test_pipe_is_whole_and_plain(spanctl: Spanctl, ledger: Ledger) -> None:
    """In a pipe everything is there, tab-separated, uncoloured, times in UTC, ids whole."""
    result = spanctl("audit", ledger.inserted.txn_id)
    lines = result.stdout.splitlines()
    assert f"txn_id\t{ledger.inserted.txn_id}" in lines
    assert "reason\tit was [bold]wrong[/bold]" in lines
    assert sum(line.startswith("T\tINSERT\t") for line in lines) == 25
    assert "\x1b" not in result.stdout
    (stamp,) = [line.split("\t")[1] for line in lines if line.startswith("commit_timestamp\t")]
    assert datetime.fromisoformat(stamp) == ledger.inserted.commit_timestamp


def test_rows_are_limited_on_request(spanctl: Spanctl, ledger: Ledger) -> None:
    """--rows limits what is shown, to none if that is wished."""
    for limit in (0, 3):
        data = shown(spanctl, ledger.inserted.txn_id, "--rows", str(limit))
        assert len(data["rows"]) == limit
        assert data["rows_changed"] == 25


def test_terminal(terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """On a terminal the outcome comes first, rows are a diff, and data is never markup."""
    result = terminal("audit", ledger.updated.txn_id, columns=100, env=PLAIN)
    lines = [line for line in result.stdout.splitlines() if "reading the trail" not in line]
    assert result.exit_code == 0
    assert lines[0].startswith("✓ COMMITTED  20")
    assert lines[1].strip() == ledger.updated.txn_id
    assert "asked by    anna@example.com  claimed" in result.stdout
    assert "s1 → [red]é" in result.stdout
    assert "it was [bold]wrong[/bold]" in result.stdout


def test_labels_stand_apart_from_their_values() -> None:
    """However long a label is, blanks follow it, and all values begin in one column."""
    name = "operations/_auto_1"
    told = Outside(
        kind=StatementKind.DDL, said=Phase.FINISHED, phase=Phase.FINISHED, operation=name
    )
    shown = page(replace(transaction_trail(), outside=told), None, ())
    lines = [one.plain for one in shown if isinstance(one, Text)]
    (line,) = [line for line in lines if line.startswith("  ddl operation")]
    assert line.split() == ["ddl", "operation", name]
    (other,) = [line for line in lines if line.startswith("  attempt")]
    assert other.index("2") == line.index(name)


def _told(text: str, squeezed: str, columns: int) -> bool:
    """Whether a text is there; in a table its words may be apart, each of them whole or folded."""
    if columns < 80:
        return "".join(text.split()) in squeezed
    return all(word in squeezed for word in text.split())


@pytest.mark.parametrize("columns", [40, 44, 60, 80, 111, 112, 200])
def test_nothing_is_cut(terminal: Callable[..., Ended], ledger: Ledger, columns: int) -> None:
    """At any width every character is there, and ids are whole, to be copied."""
    page = terminal("audit", ledger.partly.txn_id, columns=columns, env=PLAIN).stdout
    squeezed = "".join(page.split())
    notes = ("the receipt, written by the same commit", "the emulator keeps none")
    names = ("Quiet: not watched; for the next time", "ledger present proven", "insert Quiet")
    for text in ("anna@example.com", "spanctl init --table Quiet", RUN, *notes, *names[:1]):
        assert _told(text, squeezed, columns)
    if columns < 80:
        assert all("".join(text.split()) in squeezed for text in names)
    run = terminal("audit", RUN, columns=columns, env=PLAIN).stdout
    table = terminal("audit", "list", columns=columns, env=PLAIN).stdout
    assert ledger.partly.txn_id in page
    assert all(ledger.partly.txn_id in shown for shown in (page, run, table))
    assert all("…" not in shown for shown in (page, run, table))
    assert all(f"{time:%H:%M:%S}" in run for time in [ledger.partly.commit_timestamp])


def test_rows_left_out_are_counted(terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """A terminal shows 20 rows and says how many more there are, and how to see them."""
    result = terminal("audit", ledger.inserted.txn_id, columns=100, env=PLAIN)
    assert result.stdout.count("inserted") == 20
    assert "5 more rows: --rows N, or -o json" in result.stdout


def test_run_shows_who_and_why_and_the_rows(
    spanctl: Spanctl, terminal: Callable[..., Ended], ledger: Ledger
) -> None:
    """A run's trail says who asked, who wrote, how sure that is, why, and which rows changed."""
    data = shown(spanctl, RUN)
    assert (data["initiator"], data["initiator_standing"]) == ("anna@example.com", "claimed")
    assert (data["executor"], data["executor_standing"]) == ("worker-1", "claimed")
    assert data["reason"] == ORIGIN.reason
    assert (data["changes_complete"], data["gaps"]) == (False, ["Quiet: not watched"])
    ids = [one["txn_id"] for one in data["rows"]]
    assert ids == [*[ledger.inserted.txn_id] * 25, ledger.updated.txn_id]
    assert data["rows"][-1]["before"] == {"s": "s1"}
    told = {one["txn_id"]: one for one in data["transactions"]}
    assert told[ledger.inserted.txn_id]["changes_complete"] is True
    assert told[ledger.partly.txn_id]["changes_complete"] is False
    assert {one["initiator"] for one in told.values()} == {"anna@example.com"}
    assert {"command": "spanctl init --table Quiet"} in data["next"]
    page = terminal("audit", RUN, columns=100, env=PLAIN).stdout
    for text in (
        "asked by    anna@example.com  claimed",
        "written by  worker-1  claimed",
        "reason      it was [bold]wrong[/bold]",
        "Rows  26 changed; not complete: see the change stream below",
        "6 more rows: --rows N, or -o json for all",
        "Quiet: not watched",
    ):
        assert text in page
    whole = spanctl("audit", RUN, "-o", "html").stdout
    assert f"transaction <code>{ledger.updated.txn_id}</code>" in whole


@pytest.mark.parametrize("columns", [60, 80, 132, 200])
def test_the_list_tells_proven_from_claimed(
    terminal: Callable[..., Ended],
    spanctl: Spanctl,
    emulator: str,
    ledger: Ledger,
    columns: int,
) -> None:
    """It shows who asked, and how sure that is, at any width and in JSON: in words."""
    proven = replace(
        ledger.nothing,
        txn_id=str(uuid.uuid4()),
        provenance=replace(ORIGIN, initiator="bea", initiator_standing=Standing.PROVEN),
    )
    forged = replace(
        proven,
        txn_id=str(uuid.uuid4()),
        provenance=replace(proven.provenance, initiator="eve", deployment=str(uuid.uuid4())),
    )
    name = ledger.environment["SPANCTL_DATABASE"]
    with raw.database(emulator, name) as google:
        with google.batch() as batch:
            written = [receipts.row(one) for one in (proven, forged)]
            batch.insert(receipts.TABLE, receipts.COLUMNS, written)
        try:
            page = " ".join(terminal("audit", "list", columns=columns, env=PLAIN).stdout.split())
            items = {one["txn_id"]: one for one in shown(spanctl, "list")["items"]}
        finally:
            from google.cloud.spanner_v1 import KeySet

            with google.batch() as batch:
                keys = [[one.txn_id] for one in (proven, forged)]
                batch.delete(receipts.TABLE, KeySet(keys=keys))
    for text in ("bea proven", "eve claimed", "anna@example.com"):
        assert text in page
    standings = {one["initiator"]: one["initiator_standing"] for one in items.values()}
    assert {standings[who] for who in ("anna@example.com", "eve")} == {"claimed"}
    assert standings["bea"] == "proven"


def test_not_watched(spanctl: Spanctl, ledger: Ledger) -> None:
    """A table outside the change stream is a gap that is named, with the command that closes it."""
    data = shown(spanctl, ledger.partly.txn_id)
    assert data["changes_complete"] is False
    assert data["not_watched"] == ["Quiet"]
    assert {"command": "spanctl init --table Quiet"} in data["next"]


def test_fence_on_a_terminal(terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """A fence is told as what it is: not committed, for good."""
    result = terminal("audit", ledger.fenced, columns=100, env=PLAIN)
    assert "✗ NOT COMMITTED" in result.stdout
    assert "never commits" in result.stdout


def test_run(spanctl: Spanctl, terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """A run's trail counts and lists its transactions, in JSON and on a terminal."""
    data = shown(spanctl, RUN)
    assert (data["subject"], data["committed"], data["fenced"]) == ("run", 3, 1)
    assert data["rows_changed"] == 27
    ids = [one["txn_id"] for one in data["transactions"]]
    assert ids == [
        ledger.inserted.txn_id,
        ledger.updated.txn_id,
        ledger.partly.txn_id,
        ledger.fenced,
    ]
    page = terminal("audit", RUN, columns=100, env=PLAIN).stdout
    assert all(txn_id in page for txn_id in ids)
    assert "3 transactions committed, 27 rows changed, 1 fenced" in page


def listed(spanctl: Spanctl, *args: str) -> list[str]:
    result = spanctl("audit", "list", *args, "-o", "name")
    assert result.exit_code == 0, result.stderr
    return result.stdout.split()


def test_list(spanctl: Spanctl, ledger: Ledger) -> None:
    """The list is newest first and can be narrowed by run, outcome, time and number."""
    everything = listed(spanctl)
    expected = [
        ledger.fenced,
        ledger.nothing.txn_id,
        ledger.partly.txn_id,
        ledger.updated.txn_id,
        ledger.inserted.txn_id,
    ]
    assert everything[:5] == expected
    assert listed(spanctl, "--limit", "2") == expected[:2]
    assert listed(spanctl, "--flow-run", RUN.upper()) == [expected[0], *expected[2:]]
    assert listed(spanctl, "--flow-run", "other") == [ledger.nothing.txn_id]
    assert listed(spanctl, "--outcome", "not_committed") == [ledger.fenced]
    assert ledger.fenced not in listed(spanctl, "--outcome", "COMMITTED")
    stamp = ledger.updated.commit_timestamp.isoformat()
    assert listed(spanctl, "--until", stamp)[:2] == expected[3:]
    assert listed(spanctl, "--since", stamp)[:5] == expected[:4]


def test_list_of_nothing(spanctl: Spanctl, ledger: Ledger) -> None:  # noqa: ARG001 - its environment
    """An empty list is no error, and is empty for scripts."""
    for args in (["--until", "1d"], ["--flow-run", "no-such-run"], ["--since", "0s"]):
        assert listed(spanctl, *args) == []
    result = spanctl("audit", "list", "--since", "0s", "-o", "json")
    assert json.loads(result.stdout) == {"schema": "spanctl.audit.list/v1", "items": []}


@pytest.mark.parametrize(
    "args",
    [
        ["list", "--since", "yesterday"],
        ["list", "--until", "2026-01-01"],
        ["list", "--outcome", "maybe"],
        ["list", "--limit", "0"],
        ["12345678", "--rows", "-1"],
        ["12345678", "extra"],
        ["12345678", "-o", "xml"],
        ["-o", "json"],
    ],
)
def test_usage(spanctl: Spanctl, ledger: Ledger, args: list[str]) -> None:  # noqa: ARG001 - its environment
    """What can't be meant exits 2 with one line, before anything is read."""
    result = spanctl("audit", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_csv(spanctl: Spanctl, ledger: Ledger) -> None:
    """The list as CSV has every column, and quotes what needs it."""
    result = spanctl("audit", "list", "-o", "csv", "--flow-run", RUN)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["txn_id"] for row in rows][-1] == ledger.inserted.txn_id
    assert rows[-1]["reason"] == ORIGIN.reason
    assert rows[-1]["initiator"] == "anna@example.com"


def test_the_list_on_a_narrow_terminal(terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """A list on 80 columns has whole ids, and what was changed below them."""
    lines = terminal("audit", "list", columns=80, env=PLAIN).stdout.splitlines()
    index = lines.index(ledger.inserted.txn_id)
    assert lines[index + 1].startswith("  COMMITTED  ")
    assert lines[index + 1].endswith("  25 rows")
    assert lines[index + 2] == "  insert T  nightly / step"
    assert lines[index + 3] == "  asked by anna@example.com  claimed"


def test_the_list_on_a_wide_terminal(terminal: Callable[..., Ended], ledger: Ledger) -> None:
    """A list on 132 columns is a line a transaction; from 170 on the reason is there, too."""
    for columns, end in ((132, "nightly / step"), (170, "it was [bold]wrong[/bold]")):
        lines = terminal("audit", "list", columns=columns, env=PLAIN).stdout.splitlines()
        (line,) = [line for line in lines if line.startswith(ledger.inserted.txn_id)]
        assert line.rstrip().endswith(end)


def test_calls_of_a_step_are_told_apart(spanctl: Spanctl, ledger: Ledger) -> None:
    """The list names the step of the operation key and its call, beside the task."""
    items = {one["txn_id"]: one for one in shown(spanctl, "list")["items"]}
    of = [items[one.txn_id] for one in (ledger.inserted, ledger.updated, ledger.partly)]
    assert [one["step"] for one in of] == ["step", "step#1", "step#2"]
    assert {one["task"] for one in of} == {"load"}


def test_an_empty_window(spanctl: Spanctl, ledger: Ledger) -> None:  # noqa: ARG001 - its environment
    """A window that ends before it begins is refused in one line, with the right order."""
    for args in (["--since", "1h", "--until", "2h"], ["--until", "2d"]):
        result = spanctl("audit", "list", *args)
        assert (result.exit_code, result.stdout) == (2, "")
        error, hint = result.stderr.splitlines()
        assert error.startswith("error: nothing is both since ")
        assert "--since 2h --until 1h" in hint


def test_no_age_and_no_time(spanctl: Spanctl, ledger: Ledger) -> None:  # noqa: ARG001 - its environment
    """The hint shows ages as well as a time, and a long text isn't repeated."""
    result = spanctl("audit", "list", "--since", "yesterday")
    assert "such as 1h or 7d" in result.stderr
    assert "2026-01-31T08:00:00Z" in result.stderr
    assert len(spanctl("audit", "list", "--since", "y" * 100_000).stderr) < 300


@pytest.mark.parametrize("wanted", ["", "   ", "f" * 100_000])
@pytest.mark.parametrize("command", [(), ("list", "--flow-run")])
def test_ids_that_are_none(
    spanctl: Spanctl,
    ledger: Ledger,  # noqa: ARG001 - its environment
    wanted: str,
    command: tuple[str, ...],
) -> None:
    """Nothing, and far too much, are no ID; neither fills the screen."""
    result = spanctl("audit", *command, wanted)
    assert (result.exit_code, result.stdout) == (5, "")
    assert len(result.stderr) < 300
    assert "spanctl audit list" in result.stderr


def test_nothing_runs(spanctl: Spanctl, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """No database exits 3; no Prefect is only a gap in the trail."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    data = shown(spanctl, ledger.updated.txn_id)
    (prefect,) = [one for one in data["sources"] if one["source"] == "prefect"]
    assert prefect["coverage"] == "unreachable"
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    result = spanctl("audit", ledger.updated.txn_id)
    assert (result.exit_code, result.stdout) == (3, "")


def test_help(spanctl: Spanctl) -> None:
    """The help says that an ID goes there, and needs no database."""
    assert "ID" in spanctl("audit").stdout
    assert "--rows" in spanctl("audit", "show", "--help").stdout


def test_only_what_is_needed_is_imported(ledger: Ledger) -> None:
    """In a pipe and without Prefect, neither its second nor an HTTP client is paid for."""
    code = (
        "import sys; sys.argv = ['spanctl', 'audit', sys.argv[1]]\n"
        "from spanctl_cli.main import main\n"
        "try:\n    main()\nfinally:\n"
        "    assert not {'prefect', 'httpx', 'rich'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ledger.updated.txn_id],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_page_of_html(
    spanctl: Spanctl, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stdout, or in a file of its owner's, which a browser is asked to open."""
    wanted = ledger.updated.txn_id
    piped = spanctl("audit", wanted, "-o", "html")
    assert piped.exit_code == 0
    assert piped.stdout.startswith("<!doctype html>\n")
    assert "it was [bold]wrong[/bold]" in piped.stdout
    path = tmp_path / "trail.html"
    filed = spanctl("audit", wanted[:8], "--output-file", str(path))
    assert (filed.exit_code, filed.stdout) == (0, "")
    assert str(path) in filed.stderr
    assert f'<p class="id">{wanted}</p>' in path.read_text(encoding="utf-8")
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or False)
    shown = spanctl("audit", wanted, "--open")
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert opened == [(state_home() / "pages" / f"{wanted}.html").resolve().as_uri()]
    assert "there is no browser here" in shown.stderr


@pytest.mark.parametrize("more", [("-o", "html", "--fields", "txn_id"), ("-o", "json", "--open")])
def test_a_page_is_whole(spanctl: Spanctl, ledger: Ledger, more: tuple[str, ...]) -> None:
    """Fields can't be picked from it, and it is no other format."""
    refused = spanctl("audit", ledger.updated.txn_id, *more)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "a page of HTML is whole" in refused.stderr
