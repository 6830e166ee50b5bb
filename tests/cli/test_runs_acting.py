"""``spanctl runs wait|watch|logs|cancel|retry`` against an API that answers what it is told."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from spanctl_cli.exit_codes import ExitCode, worst
from spanctl_cli.output import Listing
from spanctl_cli.output.rendering import drawn
from spanctl_cli.runs import lines
from tests.fixtures.cli import Spanctl
from tests.fixtures.scripted_prefect import ScriptedPrefect, a_run

ONE = a_run(1)["id"]


def states(*names: str) -> list[dict[str, Any]]:
    stamp = "2026-11-22T08:00:00+00:00"
    return [{"type": name, "name": name.title(), "timestamp": stamp} for name in names]


def a_line(message: str, second: int = 0, level: int = 20, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"{second}",
        "timestamp": f"2026-11-22T08:00:{second:02d}+00:00",
        "level": level,
        "name": "prefect.flow_runs",
        "message": message,
        **fields,
    }


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


@pytest.mark.parametrize(
    ("state", "code", "error"),
    [
        ("COMPLETED", 0, None),
        ("FAILED", 1, "flow_failed"),
        ("CRASHED", 12, "flow_cancelled"),
        ("CANCELLED", 12, "flow_cancelled"),
        ("RUNNING", 8, "pending"),
    ],
)
def test_one_is_waited_for(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    code: int,
    error: str | None,
) -> None:
    """The exit code says how it ended, or 8 when time is up; a failure leaves stdout empty."""
    monkeypatch.setattr("spanctl.audit.ending._PATIENCE", 0.0)
    monkeypatch.setattr("spanctl.audit.ending._LEAST", 0.0)
    scripted_prefect.add_runs(a_run(1, state))
    done = spanctl("runs", "wait", ONE, "--timeout", "10ms", "-o", "json")
    assert done.exit_code == code, done.stderr
    if error is None:
        assert json.loads(done.stdout)["items"][0]["state"] == "Completed"
    else:
        assert (done.stdout, error_of(done)["code"]) == ("", error)


def test_several_are_told_apart(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its own code in the JSON, what doesn't exist too; the worst one is the exit code."""
    monkeypatch.setattr("spanctl.audit.ending._PATIENCE", 0.0)
    monkeypatch.setattr("spanctl.audit.ending._LEAST", 0.0)
    scripted_prefect.add_runs(a_run(1), a_run(2, "CRASHED"), a_run(3, "RUNNING"))
    runs = [a_run(number)["id"] for number in (1, 2, 3)]
    done = spanctl("runs", "wait", *runs, "no-such-run", "--timeout", "10ms", "-o", "json")
    assert done.exit_code == 12
    items = json.loads(done.stdout)["items"]
    assert [one["exit_code"] for one in items] == [0, 12, 8, 5]
    assert [one["target"] for one in items] == [*runs, "no-such-run"]
    assert "ended as Crashed" in done.stderr


@pytest.mark.parametrize(
    ("state", "history", "wanted", "code"),
    [
        ("RUNNING", (), ("running",), 0),
        ("FAILED", (), ("failed", "crashed"), 0),
        ("COMPLETED", ("PENDING", "RUNNING", "COMPLETED"), ("running",), 0),
        ("COMPLETED", ("RUNNING", "COMPLETED"), ("failed",), 6),
        ("CANCELLED", ("PENDING", "CANCELLED"), ("running",), 12),
        ("PENDING", (), ("running",), 8),
        ("RUNNING", (), ("runing",), 2),
    ],
)
def test_a_state_is_waited_for(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    history: tuple[str, ...],
    wanted: tuple[str, ...],
    code: int,
) -> None:
    """Reached, also on the way to the end, is 0; ended otherwise is as it ended, or 6."""
    monkeypatch.setattr("spanctl.audit.ending._PATIENCE", 0.0)
    monkeypatch.setattr("spanctl.audit.ending._LEAST", 0.0)
    scripted_prefect.add_runs(a_run(1, state))
    scripted_prefect.routes["GET /flow_run_states/"] = states(*history)
    options = [part for word in wanted for part in ("--for", word)]
    done = spanctl("runs", "wait", ONE, *options, "--timeout", "10ms")
    assert done.exit_code == code, done.stderr


def test_the_worst_code() -> None:
    """An open outcome is worse than a failure, a failure than what only goes on; nothing is 0."""
    assert worst([]) is ExitCode.DONE
    assert worst([ExitCode.DONE, ExitCode.PENDING]) is ExitCode.PENDING
    assert worst([ExitCode.PENDING, ExitCode.NOT_FOUND, ExitCode.FAILED]) is ExitCode.FAILED
    assert worst([ExitCode.FAILED, ExitCode.UNKNOWN, ExitCode.CANCELLED]) is ExitCode.UNKNOWN


def answered(status: str, state: str) -> dict[str, Any]:
    return {"status": status, "state": states(state)[0]}


def test_cancel_what_nobody_runs_yet(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """Prefect cancels a waiting run at once, by refusing the step between: that is done, 0."""
    kept = [a_run(1, "SCHEDULED")]
    scripted_prefect.add_runs(kept[0])

    def cancelled(_: Any) -> Any:
        kept[0]["state"] = states("CANCELLED")[0]
        return answered("REJECT", "CANCELLED")

    scripted_prefect.routes[f"POST /flow_runs/{ONE}/set_state"] = cancelled
    done = spanctl("runs", "cancel", ONE, "--reason", "wrong day", "-o", "json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["state"], data["ledger"], data["transactions"]) == ("Cancelled", "untouched", [])
    (sent,) = scripted_prefect.sent(f"POST /flow_runs/{ONE}/set_state")
    assert sent["state"]["type"] == "CANCELLING"
    assert sent["state"]["message"].endswith("with spanctl: wrong day")
    assert not sent["force"]


def test_cancel_what_goes_on(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """A run that nobody stops in time is 8 with its state; detached, being accepted is 0."""
    scripted_prefect.add_runs(a_run(1, "RUNNING"))
    route = f"POST /flow_runs/{ONE}/set_state"
    scripted_prefect.routes[route] = answered("ACCEPT", "CANCELLING")
    done = spanctl("runs", "cancel", ONE, "--timeout", "10ms", "-o", "json")
    assert (done.exit_code, json.loads(done.stdout)["state"]) == (8, "Running")
    assert "goes on still" in done.stderr
    assert spanctl("runs", "cancel", ONE, "--detach").exit_code == 0


def test_cancel_when_the_ledger_is_away(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect
) -> None:
    """Cancelled, but what became of its transactions can't be told: 3, never 0."""
    labels = {"spanctl.ledger_id.projects/p/instances/i/databases/d": "x"}
    run = a_run(1, "RUNNING", labels=labels)
    scripted_prefect.add_runs(run)

    def cancelled(_: Any) -> Any:
        run["state"] = states("CANCELLED")[0]
        return answered("ACCEPT", "CANCELLING")

    scripted_prefect.routes[f"POST /flow_runs/{ONE}/set_state"] = cancelled
    done = spanctl("runs", "cancel", ONE, "-o", "json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["ledger"] == "unreachable"


@pytest.mark.parametrize(
    ("command", "run", "words"),
    [
        ("cancel", a_run(1, "COMPLETED"), "has ended already"),
        ("cancel", a_run(1, "RUNNING"), "does not let"),
        ("retry", a_run(1, "COMPLETED"), "nothing to retry"),
        ("retry", a_run(1, "RUNNING"), "has not ended"),
        ("retry", a_run(1, "FAILED", deployment_id=None), "no worker can run it again"),
        ("retry", a_run(1, "FAILED"), "does not let"),
    ],
)
def test_refusals(
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    command: str,
    run: dict[str, Any],
    words: str,
) -> None:
    """What its state forbids is refused with 6, by us or by Prefect's rules."""
    scripted_prefect.add_runs(run)
    scripted_prefect.routes[f"POST /flow_runs/{ONE}/set_state"] = answered("ABORT", "RUNNING")
    scripted_prefect.routes[f"PATCH /flow_runs/{ONE}/labels"] = {}
    scripted_prefect.routes[f"PATCH /flow_runs/{ONE}"] = {}
    done = spanctl("runs", command, ONE, "-o", "json")
    assert (done.exit_code, done.stdout) == (6, ""), done.stderr
    assert words in error_of(done)["message"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({}, "it had no idempotency key: typed again, what it committed is done once more"),
        ({"spanctl.idempotency_key": "july"}, "with --idempotency-key july goes on"),
    ],
)
def test_a_run_of_a_file_is_typed_again(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect, labels: dict[str, str], words: str
) -> None:
    """What that does depends on the key that the run had."""
    scripted_prefect.add_runs(a_run(1, "FAILED", deployment_id=None, labels=labels))
    assert words in error_of(spanctl("runs", "retry", ONE, "-o", "json"))["hint"]


def test_retry(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """The same run is scheduled once more, with who and why; accepted is 0."""
    scripted_prefect.add_runs(a_run(1, "FAILED"))
    route = f"POST /flow_runs/{ONE}/set_state"
    scripted_prefect.routes[route] = answered("ACCEPT", "SCHEDULED")
    scripted_prefect.routes[f"PATCH /flow_runs/{ONE}/labels"] = {}
    scripted_prefect.routes[f"PATCH /flow_runs/{ONE}"] = {}
    done = spanctl("runs", "retry", ONE, "--reason", "disk was full", "--detach", "-o", "json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["flow_run"] == ONE
    (sent,) = scripted_prefect.sent(route)
    assert (sent["state"]["type"], sent["force"]) == ("SCHEDULED", True)
    assert "disk was full" in sent["state"]["message"]


def test_logs_in_a_pipe(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """Lines are whole, one a record, whatever they hold; levels and the tail are cut as asked."""
    scripted_prefect.add_runs(a_run(1))
    lines = [
        a_line("one", 1),
        a_line("two\n  File \x1b[31mx", 2, 40),
        a_line("three [bold]", 3, 10),
    ]
    scripted_prefect.routes["POST /logs/filter"] = lines
    done = spanctl("runs", "logs", ONE)
    assert done.exit_code == 0, done.stderr
    _, first, second, third = done.stdout.splitlines()
    assert first.split("\t")[:4] == ["2026-11-22T08:00:01.000000Z", "prefect", "INFO", "one"]
    assert second.split("\t")[3] == "two\\n  File \\x1b[31mx"
    assert third.split("\t")[3] == "three [bold]"
    data = [
        json.loads(line)
        for line in spanctl("runs", "logs", ONE, "-o", "jsonl").stdout.split("\n")
        if line
    ]
    assert [one["message"] for one in data] == [line["message"] for line in lines]
    errors = spanctl("runs", "logs", ONE, "--level", "error", "--fields", "level,message")
    assert errors.stdout.splitlines() == ["level\tmessage", "ERROR\ttwo\\n  File \\x1b[31mx"]
    assert "three" in spanctl("runs", "logs", ONE, "--tail", "1").stdout
    assert "one" not in spanctl("runs", "logs", ONE, "--tail", "1").stdout
    assert spanctl("runs", "logs", ONE, "--tail", "1", "--follow").exit_code == 2


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_logs_on_a_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line wraps between words, clear of the times; ids are whole; several lines stay so."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    rows = [
        {"source": source, "level": "INFO", "message": message, "txn_id": txn_id}
        for source, message, txn_id in (
            ("prefect", " ".join(["the account of EDDF"] * 5), None),
            ("ledger", "COMMITTED withdraw · 28,000 rows", ONE),
            ("prefect", f"{'x ' * 40}\nand more", None),
        )
    ]
    stamp = datetime(2026, 11, 22, 8, tzinfo=UTC)
    drawing = [lines.draw({**row, "timestamp": stamp}) for row in rows]
    shown = drawn(Listing("runs.logs", (), (), view=lambda: drawing)).splitlines()
    first = next(number for number, line in enumerate(shown) if "COMMITTED" in line)
    assert {line[:13] for line in shown[1:first]} <= {" " * 13}
    assert " ".join(line[13:] for line in shown[:first]) == rows[0]["message"]
    assert [line[-36:] for line in shown if ONE in line] == [ONE]
    assert shown[-1] == "  and more"
    assert max(map(len, shown)) <= columns


def test_logs_without_the_ledger(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """Of a run that wrote, a ledger that can't be asked ends with 3, after Prefect's lines."""
    labels = {"spanctl.ledger_id.projects/p/instances/i/databases/d": "x"}
    scripted_prefect.add_runs(a_run(1, labels=labels))
    scripted_prefect.routes["POST /logs/filter"] = [a_line("one")]
    done = spanctl("runs", "logs", ONE)
    assert done.exit_code == 3
    assert "one" in done.stdout


@pytest.fixture
def play(scripted_prefect: ScriptedPrefect) -> list[str]:
    """Return the states that the run goes through, one with each look at it."""
    left = ["PENDING", "RUNNING", "RUNNING", "COMPLETED"]

    def look(_: Any) -> Any:
        state = left.pop(0) if len(left) > 1 else left[0]
        return a_run(1, state, start_time=None if state == "PENDING" else a_run(1)["start_time"])

    def logs(body: Any) -> Any:
        said = [a_line("one", 1), a_line("two", 2)]
        if len(left) == 1:
            said.append(a_line("Finished in state Completed()", 3))
        return said[body.get("offset", 0) :]

    scripted_prefect.add_runs(a_run(1, "PENDING"))
    scripted_prefect.routes[f"GET /flow_runs/{ONE}"] = look
    scripted_prefect.routes["POST /logs/filter"] = logs
    return left


@pytest.mark.usefixtures("play")
def test_logs_are_followed_to_the_end(spanctl: Spanctl) -> None:
    """Each line comes once; the end of the run ends it, and is told."""
    done = spanctl("runs", "logs", ONE, "--follow", "-o", "jsonl")
    assert done.exit_code == 0, done.stderr
    lines = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert lines == ["one", "two", "Finished in state Completed()"]
    assert "ended as Completed" in done.stderr


def test_a_line_that_comes_late_is_followed_too(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect, play: list[str]
) -> None:
    """Another process sent it after later ones: it is told nevertheless, and no line twice."""

    def logs(body: Any) -> Any:
        late = [a_line("two", 2)] if len(play) == 1 else []  # at the last look
        return [a_line("one", 1), *late, a_line("three", 3), a_line("four", 4)][body["offset"] :]

    scripted_prefect.routes["POST /logs/filter"] = logs
    done = spanctl("runs", "logs", ONE, "--follow", "-o", "jsonl")
    lines = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert lines == ["one", "three", "four", "two"]


@pytest.mark.usefixtures("play")
def test_a_run_is_watched(spanctl: Spanctl) -> None:
    """States and lines come as events, Prefect's own chatter doesn't; the result is the last."""
    done = spanctl("runs", "watch", ONE, "-o", "jsonl")
    assert done.exit_code == 0, done.stderr
    *events, last = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one.get("state") for one in events if one["event"] == "state"] == [
        "Running",
        "Completed",
    ]
    assert [one["message"] for one in events if one["event"] == "log"] == ["one", "two"]
    assert (last["schema"], last["state"], last["flow"]) == (
        "spanctl.run/v1",
        "Completed",
        "transfer/nightly",
    )


@pytest.mark.usefixtures("play")
def test_a_traceback_is_for_the_logs(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """Who watches gets the exception in a line, of however many; the run's log has it whole."""
    frames = 'Traceback (most recent call last):\n  File "pay.py", line 3\nValueError: broke'
    said = (f"Encountered an exception: ValueError('broke')\n{frames}", frames, "two\nlines")
    lines = [a_line(text, number, level=40) for number, text in enumerate(said)]
    scripted_prefect.routes["POST /logs/filter"] = lambda body: lines[body["offset"] :]
    watched = spanctl("runs", "watch", ONE, "-o", "jsonl")
    events = [json.loads(line) for line in watched.stdout.splitlines()]
    assert [one["message"] for one in events if one.get("event") == "log"] == [
        "Encountered an exception: ValueError('broke')",
        "ValueError: broke",
        "two\nlines",
    ]
    whole = spanctl("runs", "logs", ONE, "-o", "jsonl")
    assert [json.loads(line)["message"] for line in whole.stdout.splitlines()] == list(said)


def test_a_watched_run_fails(
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    play: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exit code is the run's, by its failed step."""
    monkeypatch.setattr("spanctl.audit.ending._PATIENCE", 0.0)
    monkeypatch.setattr("spanctl.audit.ending._LEAST", 0.0)
    play[-1] = "FAILED"
    step = {"txn_id": "t", "step": "pay", "outcome": "NOT_COMMITTED", "error": "key_closed"}
    scripted_prefect.routes["POST /artifacts/filter"] = [{"data": json.dumps([step])}]
    done = spanctl("runs", "watch", ONE, "-o", "json")
    assert (done.exit_code, done.stdout) == (6, ""), done.stderr
    assert error_of(done)["code"] == "key_closed"


def test_watching_is_over_before_the_run(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect
) -> None:
    """When the time is over it is 8, and the run goes on."""
    scripted_prefect.add_runs(a_run(1, "RUNNING"))
    done = spanctl("runs", "watch", ONE, "--timeout", "10ms")
    assert (done.exit_code, done.stdout) == (8, "")
    assert f"spanctl runs watch {ONE}" in done.stderr
