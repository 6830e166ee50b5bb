"""``spanctl run`` of deployments: what is sent, what is refused before, and several at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.cli import Spanctl
from tests.fixtures.scripted_prefect import DEPLOYMENT, FLOW, ScriptedPrefect, a_run

SCHEMA = {
    "type": "object",
    "properties": {"account": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["account"],
}
CREATE = f"POST /deployments/{DEPLOYMENT}/create_flow_run"
OTHER = "de900000-0000-4000-8000-0000000000d2"


@pytest.fixture
def api(scripted_prefect: ScriptedPrefect, monkeypatch: pytest.MonkeyPatch) -> ScriptedPrefect:
    """A server with two deployments, whose runs end as 1: Completed and 2: Failed."""
    monkeypatch.setattr("spanctl.audit.ending._PATIENCE", 0.0)
    monkeypatch.setattr("spanctl.audit.ending._LEAST", 0.0)
    monkeypatch.setattr("spanctl.audit.watch._DRAIN", 0.0)
    scripted_prefect.add_runs(a_run(1), a_run(2, "FAILED"))
    for number, (name, identifier) in enumerate((("nightly", DEPLOYMENT), ("weekly", OTHER)), 1):
        scripted_prefect.routes[f"GET /deployments/name/transfer/{name}"] = {
            "id": identifier,
            "name": name,
            "flow_id": FLOW,
            "parameters": {"amount": 5},
            "parameter_openapi_schema": SCHEMA,
        }
        created = a_run(number, "SCHEDULED")
        scripted_prefect.routes[f"POST /deployments/{identifier}/create_flow_run"] = (201, created)
    return scripted_prefect


def error_of(done: Any) -> Any:
    return json.loads(done.stderr.splitlines()[-1])["error"]


def test_what_is_sent(spanctl: Spanctl, api: ScriptedPrefect, tmp_path: Path) -> None:
    """File and flags become parameters, typed by the schema; tags and job variables go along."""
    file = tmp_path / "tonight.toml"
    file.write_text('account = "0815"\namount = 1')
    done = spanctl(
        *("run", "transfer/nightly", "--detach", "--param-file", str(file), "-p", "amount=7"),
        *("--tag", "a", "--tag", "b", "--job-variable", 'env={"A": "1"}', "-o", "json"),
        *("--idempotency-key", "payday"),
    )
    assert done.exit_code == 0, done.stderr
    (sent,) = api.sent(CREATE)
    assert sent["parameters"] == {"account": "0815", "amount": 7}
    assert (sent["tags"], sent["job_variables"]) == (["a", "b"], {"env": {"A": "1"}})
    assert (sent["idempotency_key"], sent["state"]) == ("payday", {"type": "SCHEDULED"})
    spanctl("run", "transfer/nightly", "--detach", "-p", "account=0815")
    assert api.sent(CREATE)[-1]["parameters"] == {"account": "0815"}


@pytest.mark.parametrize("option", [("--at", "2999-01-01T02:00:00+02:00"), ("--in", "2h")])
def test_a_run_for_later(spanctl: Spanctl, api: ScriptedPrefect, option: tuple[str, str]) -> None:
    """It is scheduled, and not waited for."""
    done = spanctl("run", "transfer/nightly", "-p", "account=x", *option)
    assert done.exit_code == 0, done.stderr
    (sent,) = api.sent(CREATE)
    due = sent["state"]["state_details"]["scheduled_time"]
    if option[0] == "--at":
        assert due == "2999-01-01T00:00:00.000000Z"
    assert f"accepted for {due}" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "needs parameter account"),
        (("-p", "account=x", "-p", "amount=many"), "amount of transfer/nightly is to be integer"),
        (("-p", "acount=x"), "takes no parameter acount"),
        (("-p", "account=x", "-p", "account=y"), "is given twice"),
        (("-p", "account=x", "--at", "2001-01-01T00:00:00Z"), "is over"),
        (("-p", "account=x", "--at", "noon"), "is not a time"),
        (("-p", "account=x", "--at", "2999-01-01T00:00:00Z", "--in", "1h"), "both say when"),
        (("--param-file", "nowhere.json"), "can't read"),
        (("-p", "account=x", "-p", "amount=1e400"), "amount is infinite"),
        (("-p", "account=many\udcff"), "--param"),
        (("-p", "account=x", "--reason", "many\udcff"), "--reason"),
        (("-p", "account=x", "--job-variable", "x=1.00000000000000000001"), "more digits"),
        (("--param-file", "parameters.ini"), "isn't known"),
    ],
)
def test_what_is_refused_before(
    spanctl: Spanctl, api: ScriptedPrefect, args: tuple[str, ...], words: str
) -> None:
    """Mistakes end with 2 before a run is asked for; values are not repeated."""
    done = spanctl("run", "transfer/nightly", *args, "-o", "json")
    assert (done.exit_code, done.stdout) == (2, ""), done.stderr
    assert words in error_of(done)["message"]
    assert "many" not in done.stderr
    assert not api.sent(CREATE)


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("p.json", '{"account": "x"}', 0),
        ("p.yaml", "account: x\namount: 3", 0),
        ("p.json", '\ufeff{"account": "x"}', 0),
        ("p.toml", '\ufeffaccount = "x"', 0),
        ("p.yaml", "\ufeffaccount: x", 0),
        ("p.yml", "account: 2026-01-01", 2),
        ("p.json", '["top-secret"]', 2),
        ("p.json", '{"account": "top-secret"', 2),
        ("p.toml", "account = top-secret", 2),
        ("p.yaml", "account: [top-secret", 2),
        ("p.toml", 'account = "x"\namount = inf', 2),
        ("p.yaml", "account: x\namount: .inf", 2),
        ("p.yaml", "account: x\namount: 3.0", 0),
        ("p.json", '{"account": "x", "amount": NaN}', 2),
        ("p.json", '{"account": "\\ud800"}', 2),
        ("p.json", "\udcff", 2),
        ("p.json", '{"account": "x", "account": "top-secret"}', 2),
        ("p.yaml", "account: x\naccount: top-secret", 2),
        ("p.yaml", "account: x\namount: 3\n'amount': 4", 2),
        ("p.toml", 'account = "x"\naccount = "top-secret"', 2),
    ],
)
def test_files_of_parameters(  # noqa: PLR0913, PLR0917 - fixtures and cases
    spanctl: Spanctl, api: ScriptedPrefect, tmp_path: Path, name: str, text: str, code: int
) -> None:
    """Each form is read; what is none is refused without a word of its content."""
    (tmp_path / name).write_text(text, errors="surrogateescape")
    file = str(tmp_path / name)
    done = spanctl("run", "transfer/nightly", "--detach", "--param-file", file)
    assert done.exit_code == code, done.stderr
    assert "top-secret" not in done.stderr
    assert bool(api.sent(CREATE)) == (code == 0)


@pytest.mark.parametrize("name", ["p.json", "p.toml", "p.yaml"])
def test_parameters_in_another_encoding(
    spanctl: Spanctl, api: ScriptedPrefect, tmp_path: Path, name: str
) -> None:
    """The command that makes a file UTF-8 is named."""
    (tmp_path / name).write_text('{"account": "top-secret"}', encoding="utf-16")
    file = str(tmp_path / name)
    done = spanctl("run", "transfer/nightly", "--detach", "--param-file", file)
    assert done.exit_code == 2
    assert f"iconv -f UTF-16 -t UTF-8 {file}" in done.stderr
    assert "top-secret" not in done.stderr
    assert not api.sent(CREATE)


@pytest.mark.usefixtures("api")
def test_several(spanctl: Spanctl) -> None:
    """Each is followed and told apart; the worst of their codes is the command's."""
    done = spanctl(*("run", "transfer/nightly", "transfer/weekly", "-p", "account=x", "-o", "json"))
    assert done.exit_code == 1, done.stderr
    items = json.loads(done.stdout)["items"]
    assert [(one["target"], one["exit_code"], one["state"]) for one in items] == [
        ("transfer/nightly", 0, "Completed"),
        ("transfer/weekly", 1, "Failed"),
    ]
    assert f"flow run {a_run(2)['id']} ended as Failed" in done.stderr
    lines = spanctl(
        *("run", "transfer/nightly", "transfer/weekly", "-p", "account=x", "-o", "jsonl")
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines if "run.event" in line]
    assert {one["flow_run"] for one in events} == {a_run(1)["id"], a_run(2)["id"]}


def test_one_of_several_is_refused_by_prefect(spanctl: Spanctl, api: ScriptedPrefect) -> None:
    """What could be asked for goes on; what couldn't has its own code."""
    api.routes[CREATE] = (409, {})
    done = spanctl(
        *("run", "transfer/nightly", "transfer/weekly", "-p", "account=x", "--detach"),
        *("-o", "json"),
    )
    assert done.exit_code == 2
    items = json.loads(done.stdout)["items"]
    assert [(one["exit_code"], one["flow_run"]) for one in items] == [
        (2, None),
        (0, a_run(2)["id"]),
    ]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("transfer/nightly", "transfer/monthly", "-p", "account=x"), 5),
        (("transfer/nightly", "transfer/weekly"), 2),
        (("transfer/nightly", "transfer/weekly", "-p", "account=x", "--dry-run"), 2),
        (("transfer/nightly", "transfer/weekly", "-p", "account=x", "--idempotency-key", "k"), 2),
        (("transfer/nightly", "flows.py:transfer", "-p", "account=x"), 2),
        (("transfer/nightly", "transfer/nightly", "-p", "account=x"), 2),
    ],
)
def test_a_mistake_in_one_of_several(
    spanctl: Spanctl, api: ScriptedPrefect, args: tuple[str, ...], code: int
) -> None:
    """It is found before anything is sent, and then nothing is."""
    done = spanctl("run", *args)
    assert (done.exit_code, done.stdout) == (code, ""), done.stderr
    assert not api.sent(CREATE)


@pytest.mark.parametrize("option", [("--tag", "a"), ("--job-variable", "a=1"), ("--in", "1h")])
def test_options_of_deployments(spanctl: Spanctl, option: tuple[str, str]) -> None:
    """For a flow that runs here they are refused, not ignored."""
    done = spanctl("run", "flows.py:transfer", *option)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "is for deployments" in done.stderr


def test_the_plan(spanctl: Spanctl, api: ScriptedPrefect) -> None:
    """``--dry-run`` checks the parameters, tells when and how, and asks for nothing."""
    args = ("run", "transfer/nightly", "--dry-run", "-o", "json")
    done = spanctl(*args, "-p", "account=x", "--tag", "a")
    data = json.loads(done.stdout)
    assert (data["due"], data["tags"]) == ("now", "a")
    assert spanctl(*args).exit_code == 2
    assert not api.sent(CREATE)


@pytest.mark.parametrize(
    ("option", "word"), [((), "detached"), (("--cancel-on-interrupt",), "cancelling")]
)
def test_ctrl_c(
    spanctl: Spanctl,
    api: ScriptedPrefect,
    monkeypatch: pytest.MonkeyPatch,
    option: tuple[str, ...],
    word: str,
) -> None:
    """It ends with 130, says what it means for the run, and with which command to go on."""

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spanctl.audit.watch.follow_all", interrupted)
    run = a_run(1)["id"]
    answer = {"status": "ACCEPT", "state": {**a_run(1)["state"], "type": "CANCELLING"}}
    api.routes[f"POST /flow_runs/{run}/set_state"] = answer
    done = spanctl("run", "transfer/nightly", "-p", "account=x", *option)
    assert (done.exit_code, done.stdout) == (130, "")
    assert word in done.stderr
    assert f"spanctl runs {'wait' if option else 'watch'} {run}" in done.stderr
    assert bool(api.sent(f"POST /flow_runs/{run}/set_state")) == bool(option)
