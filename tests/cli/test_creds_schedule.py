"""``creds rotate`` of several, and the deployment that rotates what is due: in this process."""

import json
import time
import urllib.request
import uuid
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow

from spanctl.settings import Contexts
from tests.fixtures.cli import Spanctl
from tests.fixtures.creds import User, leaked
from tests.local.identity import PARENT

pytestmark = [pytest.mark.emulator, pytest.mark.prefect]


def annotate(user: User, **annotations: str) -> None:
    """Say in the secret when its credential is due, as gcloud does."""
    client = user.standins.secret_manager(user.standins.user())
    try:
        secret = client.get_secret(name=f"{PARENT}/secrets/{user.secret}")
        for name, value in annotations.items():
            secret.annotations[f"spanctl-rotate-{name}"] = value
        client.update_secret(secret=secret, update_mask={"paths": ["annotations"]})
    finally:
        client.transport.close()


def test_several_are_told_apart_and_the_worst_counts(user: User, spanctl: Spanctl) -> None:
    """One is rotated though another is not there; the exit code is the other's."""
    assert spanctl("creds", "create", user.secret, "--impersonate", email(user)).exit_code == 0
    ended = spanctl("creds", "rotate", user.secret, "nobody", "-o", "json")
    assert ended.exit_code == 5
    rows = {row["name"]: row for row in json.loads(ended.stdout)["items"]}
    assert (rows[user.secret]["outcome"], rows[user.secret]["current"]) == ("promoted", 2)
    assert (rows["nobody"]["outcome"], rows["nobody"]["code"]) == ("failed", "not_found")
    assert "warning: nobody: there is no secret" in ended.stderr
    only = spanctl("creds", "rotate", user.secret, "--due", "-o", "json")
    assert (only.exit_code, outcome(only.stdout, user)) == (0, "not due")
    annotate(user, before="2h")
    assert outcome(spanctl("creds", "list", "-o", "json").stdout, user, "state") == "due"
    planned = spanctl("creds", "rotate", "--due", "--all", "--dry-run", "-o", "json")
    assert outcome(planned.stdout, user) == "planned"
    assert "it expires at" in outcome(planned.stdout, user, "why")
    due = spanctl("creds", "rotate", "--due", "-o", "json")
    assert (due.exit_code, outcome(due.stdout, user)) == (0, "promoted")
    annotate(user, before="soon")
    wrong = spanctl("creds", "rotate", user.secret, "--due", "-o", "json")
    assert (wrong.exit_code, outcome(wrong.stdout, user)) == (2, "failed")
    assert "is no length of time" in wrong.stderr


def email(user: User) -> str:
    return user.standins.email("runner")


def outcome(text: str, user: User, field: str = "outcome") -> str:
    return str({row["name"]: row[field] for row in json.loads(text)["items"]}[user.secret])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("a", "--all"), "--all and names exclude each other"),
        (("--due", "--wait"), "--wait is for one credential"),
        (("--due", "--resume"), "--due does what is due by itself"),
    ],
)
def test_what_excludes_each_other_is_refused(
    spanctl: Spanctl, args: tuple[str, ...], said: str
) -> None:
    """Exit 2 before anything is asked or done."""
    ended = spanctl("creds", "rotate", *args)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr


def test_a_schedule_rotates_what_is_due(
    user: User, spanctl: Spanctl, prefect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deployment's flow rotates it, and Prefect holds no byte of a token, anywhere."""
    assert spanctl("creds", "create", user.secret, "--impersonate", email(user)).exit_code == 0
    annotate(user, before="2h")
    pool = f"pool-{uuid.uuid4().hex[:8]}"
    asked("POST", f"{prefect}/work_pools/", {"name": pool, "type": "process"})
    monkeypatch.setenv("SPANCTL_WORK_POOL", pool)
    made = spanctl("creds", "schedule", user.secret, "--every", "1h", "-o", "json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["deployment"] == "rotate-due/spanctl"
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("rotate-due/spanctl")
        assert deployment.parameters == {"secrets": [f"{PARENT}/secrets/{user.secret}"]}
        (schedule,) = deployment.schedules
        assert schedule.schedule.interval.total_seconds() == 3600
        from prefect.flows import load_flow_from_entrypoint

        flow = load_flow_from_entrypoint(str(deployment.entrypoint))
        run = client.create_flow_run_from_deployment(deployment.id)
        state = run_flow(flow, run, parameters=run.parameters, return_type="state")
        assert state.is_completed(), state.message
        kept = client.read_flow_run(run.id).model_dump_json()
    assert user.current() == 2
    logs = told(prefect, run.id, f"secrets/{user.secret}: promoted")
    its = {"artifacts": {"flow_run_id": {"any_": [str(run.id)]}}}
    artifacts = json.dumps(asked("POST", f"{prefect}/artifacts/filter", its))
    stored = "".join(
        path.read_text(errors="replace")
        for path in Path(Contexts.load().path.parent).rglob("*")
        if path.is_file()
    )
    assert leaked(user.payloads(), kept + logs + artifacts + stored) == 0
    again = spanctl("creds", "schedule", "--cron", "*/10 * * * *", "-o", "json")
    assert json.loads(again.stdout)["cron"] == "*/10 * * * *"
    assert spanctl("creds", "schedule", "--remove").exit_code == 0
    assert spanctl("creds", "schedule", "--remove").exit_code == 0, "twice is once"
    wrong = spanctl("creds", "schedule", "--cron", "whenever")
    assert (wrong.exit_code, wrong.stdout) == (2, "")


def told(prefect: str, run: UUID, text: str) -> str:
    """Return a run's logs once the text is among them: Prefect sends them a while later."""
    deadline = time.monotonic() + 60
    wanted = {"logs": {"flow_run_id": {"any_": [str(run)]}}}
    while text not in (logs := json.dumps(asked("POST", f"{prefect}/logs/filter", wanted))):
        assert time.monotonic() < deadline, logs
        time.sleep(0.2)
    return logs


def asked(method: str, url: str, body: Any) -> Any:
    request = urllib.request.Request(  # noqa: S310 - the test's own server
        url,
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        return json.load(answer)
