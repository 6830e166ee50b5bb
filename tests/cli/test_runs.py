"""``spanctl runs`` and ``spanctl deployments`` against an API that answers what it is told."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from spanctl.invocation import user_at_host
from tests.faults.emulator import free_port
from tests.fixtures.cli import Ended, Spanctl
from tests.fixtures.scripted_prefect import DEPLOYMENT, FLOW, ScriptedPrefect, a_run

Child = Callable[..., Ended]
SCHEMA = {
    "type": "object",
    "properties": {
        "account": {"type": "string"},
        "amount": {"type": "integer", "default": 10, "description": "in cents"},
        "mode": {"$ref": "#/definitions/Mode"},
    },
    "required": ["account"],
    "definitions": {"Mode": {"enum": ["fast", "slow"]}},
}


def a_deployment(**fields: Any) -> dict[str, Any]:
    return {
        "id": DEPLOYMENT,
        "name": "nightly",
        "flow_id": FLOW,
        "status": "READY",
        "work_pool_name": "local",
        "parameters": {"amount": 20},
        "parameter_openapi_schema": SCHEMA,
        "schedules": [
            {"schedule": {"cron": "0 4 * * *", "timezone": "UTC"}, "active": True},
            {"schedule": {"interval": 60.0}, "active": False},
        ],
        **fields,
    }


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_list_is_whole(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """Ids, names and labels come whole; parameter values don't come at all."""
    labels = {"spanctl.initiator": "ann@laptop", "spanctl.reason": "ticket 4711"}
    scripted_prefect.add_runs(a_run(1, labels=labels), a_run(2, "FAILED"))
    done = spanctl("runs", "list", "-o", "json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["schema"] == "spanctl.runs.list/v1"
    first, second = data["items"]
    assert (first["id"], first["deployment"]) == (a_run(1)["id"], "transfer/nightly")
    assert (first["initiator"], first["reason"]) == ("ann@laptop", "ticket 4711")
    assert (second["state"], second["seconds"]) == ("Failed", 2.0)
    assert "top-secret-value" not in done.stdout


def test_filters_are_the_servers(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """States, flow, deployment, tags and times go to the server, which does the looking."""
    scripted_prefect.add_runs(a_run())
    filters = ("--state", "failed", "--state", "late", "--tag", "a", "--tag", "b")
    times = ("--since", "2026-11-20T00:00:00Z", "--until", "2026-11-23T00:00:00Z")
    done = spanctl("runs", "list", *filters, "-d", "transfer/nightly", *times)
    assert done.exit_code == 0, done.stderr
    (sent,) = scripted_prefect.sent("POST /flow_runs/filter")
    assert sent["flow_runs"] == {
        "state": {"operator": "or_", "type": {"any_": ["FAILED"]}, "name": {"any_": ["Late"]}},
        "expected_start_time": {
            "after_": "2026-11-20T00:00:00.000000Z",
            "before_": "2026-11-23T00:00:00.000000Z",
        },
        "tags": {"all_": ["a", "b"]},
    }
    assert sent["flows"] == {"name": {"any_": ["transfer"]}}
    assert sent["deployments"] == {"name": {"any_": ["nightly"]}}


def test_runs_of_the_future_are_asked_for(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect
) -> None:
    """What is due only later is left out, unless scheduled runs are asked for."""
    scripted_prefect.add_runs(a_run())
    spanctl("runs", "list")
    spanctl("runs", "list", "--state", "scheduled")
    usual, scheduled = scripted_prefect.sent("POST /flow_runs/filter")
    assert "before_" in usual["flow_runs"]["expected_start_time"]
    assert "expected_start_time" not in scheduled["flow_runs"]


def test_more_than_a_page(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """A list beyond the server's page is whole, and says so where there is more than was asked."""
    scripted_prefect.add_runs(*(a_run(number) for number in range(450)))
    done = spanctl("runs", "list", "--limit", "430", "-o", "name")
    assert done.stdout.split() == [a_run(number)["id"] for number in range(430)]
    assert "these are the newest 430" in done.stderr
    everything = spanctl("runs", "list", "--limit", "450", "-o", "name")
    assert len(everything.stdout.split()) == 450
    assert everything.stderr == ""


def test_mine(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """``--mine`` lists those whose label says that they were asked for here, and no others."""
    mine = {"spanctl.initiator": user_at_host()}
    others = [a_run(number, labels={"spanctl.initiator": "x@y"}) for number in range(300)]
    scripted_prefect.add_runs(*others, a_run(301, labels=mine), a_run(302))
    done = spanctl("runs", "list", "--mine", "-o", "name")
    assert done.stdout.split() == [a_run(301)["id"]]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("list", "--state", "faild"), 2, "did you mean failed"),
        (("list", "--since", "yesterday"), 2, "give an age"),
        (("list", "--flow", "transfr"), 5, "did you mean transfer"),
        (("list", "-d", "transfer/nightli"), 5, "did you mean transfer/nightly"),
        (("list", "-d", "transfer/nightly", "--flow", "other"), 2, "give one of the two"),
        (("list", "--fields", "id,nothing"), 2, "known are: id"),
        (("show", "no-such-run"), 5, "spanctl runs list"),
        (("open", "a0000000-0000-4000-8000-00000000ffff"), 5, "spanctl runs list"),
    ],
)
def test_mistakes(
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    args: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """A mistake has its exit code, an empty stdout, and words that mend it."""
    scripted_prefect.add_runs()
    done = spanctl("runs", *args, "-o", "json")
    if code == 0:
        pytest.fail(done.stdout)
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert words in error_of(done)["hint"]


def test_two_of_one_name(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """A name that two runs have is refused with 6, and both ids are there to choose from."""
    scripted_prefect.add_runs(a_run(1, name="twin"), a_run(2, name="twin"))
    done = spanctl("runs", "show", "twin", "-o", "json")
    assert done.exit_code == 6
    assert error_of(done)["details"]["candidates"] == [a_run(1)["id"], a_run(2)["id"]]


def test_nobody_there(spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that doesn't listen is 3; none that is set is 2; both say what to do."""
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    done = spanctl("runs", "list")
    assert (done.exit_code, done.stdout) == (3, "")
    monkeypatch.delenv("PREFECT_API_URL")
    done = spanctl("deployments", "list")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "spanctl local up" in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PREFECT_API_KEY", "pnu_key", "Bearer pnu_key"),
        ("PREFECT_API_AUTH_STRING", "ann:word", "Basic YW5uOndvcmQ="),
    ],
)
def test_keys(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl,
    scripted_prefect: ScriptedPrefect,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    expected: str,
) -> None:
    """Prefect Cloud's key and a server's auth string open it; refused, 4 and no word of them."""
    monkeypatch.setenv(name, value)
    scripted_prefect.add_runs(a_run())
    assert spanctl("runs", "list").exit_code == 0
    assert {headers["Authorization"] for _, _, headers, _ in scripted_prefect.requests} == {
        expected
    }
    scripted_prefect.routes["POST /flow_runs/filter"] = (401, {"detail": value})
    done = spanctl("runs", "list", "-o", "json")
    assert done.exit_code == 4
    assert value not in done.stderr


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_ids_are_whole_at_any_width(
    terminal: Child, scripted_prefect: ScriptedPrefect, columns: int
) -> None:
    """However narrow the terminal, an id can be copied, and nothing is lost."""
    name = "a-name-that-is-longer-than-most-of-them-are-in-practice [bold]"
    scripted_prefect.add_runs(a_run(1, name=name))
    done = terminal("runs", "list", columns=columns, env={"NO_COLOR": "1"})
    assert done.exit_code == 0
    shown = done.stdout if columns >= 60 else done.stdout.replace("\n", "")
    assert a_run(1)["id"] in shown
    assert "[bold]" in "".join(done.stdout.split("\n")).replace("  ", "")


def test_show_without_transactions(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that reached no ledger is shown without asking one; values only when asked for."""
    monkeypatch.setenv("SPANNER_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    scripted_prefect.add_runs(a_run(1))
    task = {"id": "7a5c0000-0000-4000-8000-000000000001", "name": "move-0", "run_count": 2}
    scripted_prefect.routes["POST /task_runs/filter"] = [task]
    done = spanctl("runs", "show", "bold-fox-1", "-o", "json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["ledger"], data["transactions"]) == ("untouched", [])
    assert data["task_runs"][0]["attempts"] == 2
    assert data["parameters"] == ["account"]
    shown = spanctl("runs", "show", a_run(1)["id"], "--parameters", "--fields", "parameters")
    assert "top-secret-value" in shown.stdout


def test_show_when_the_ledger_is_away(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """A ledger that can't be asked ends with 3, after what Prefect knows was shown."""
    labels = {"spanctl.ledger_id.projects/p/instances/i/databases/d": "x"}
    scripted_prefect.add_runs(a_run(1, labels=labels))
    done = spanctl("runs", "show", a_run(1)["id"], "-o", "json")
    assert done.exit_code == 3
    data = json.loads(done.stdout)
    assert (data["ledger"], data["state"]) == ("unreachable", "Completed")


def test_open_off_a_terminal(
    spanctl: Spanctl, scripted_prefect: ScriptedPrefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipe the address comes alone, and no browser is started."""
    monkeypatch.setattr("webbrowser.open", lambda _: pytest.fail("a browser was opened"))
    scripted_prefect.add_runs(a_run(1))
    done = spanctl("runs", "open", "bold-fox-1")
    base = scripted_prefect.url.removesuffix("/api")
    assert done.stdout == f"{base}/runs/flow-run/{a_run(1)['id']}\n"
    as_json = json.loads(spanctl("runs", "open", "bold-fox-1", "-o", "json").stdout)
    assert as_json["flow_run"] == a_run(1)["id"]


def test_deployments(spanctl: Spanctl, scripted_prefect: ScriptedPrefect) -> None:
    """They are listed by name, and one tells its schedules and what each parameter may be."""
    scripted_prefect.add_runs()
    scripted_prefect.routes["POST /deployments/filter"] = [a_deployment()]
    scripted_prefect.routes["GET /deployments/name/transfer/nightly"] = a_deployment()
    listed = spanctl("deployments", "list", "-o", "name")
    assert listed.stdout == "transfer/nightly\n"
    done = spanctl("deployments", "show", "transfer/nightly", "-o", "json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert data["schedules"] == ["cron 0 4 * * * UTC", "every 60.0 s (off)"]
    kinds = {one["name"]: (one["type"], one["required"]) for one in data["parameters"]}
    assert kinds["account"] == ("string", True)
    assert kinds["mode"] == ('one of "fast", "slow"', False)
    assert {one["name"]: one["default"] for one in data["parameters"]}["amount"] == 20
    missing = spanctl("deployments", "show", "transfer/nightl")
    assert (missing.exit_code, missing.stdout) == (5, "")
    assert "did you mean transfer/nightly" in missing.stderr
