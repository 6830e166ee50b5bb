"""``spanctl creds`` as a user runs it: on the real stand-ins, behind TLS, before an emulator."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spanctl.clock import now
from spanctl.credentials.document import access_token_document
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.ports import (
    Payload,
    SecretState,
    VersionInfo,
    VersionState,
    VersionStateError,
)
from spanctl.credentials.rotation.status import CredentialState, read_status
from spanctl.credentials.secret import Secret
from spanctl.errors import NotPermittedError, UsageError
from spanctl_cli.creds import facts, rotating
from spanctl_cli.output.emitter import document as json_document
from tests.fixtures.cli import Spanctl, child_environment
from tests.fixtures.creds import FAILPOINT, User, encoded, leaked
from tests.local.identity import PROJECT

pytestmark = pytest.mark.emulator

NAME = SecretName("p1", "db")
TOKEN = "ya29.c.this-is-the-token-of-the-unit-tests"  # noqa: S105 - found nowhere but here


# -- what is told of a secret, on a fake


@dataclass
class FakeStore:
    """One secret in memory, read only."""

    material: bytes | None = None
    trouble: Exception | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    def get(self, name: SecretName) -> SecretState:
        assert name == NAME
        aliases = {"current": 3} if self.material or self.trouble else {}
        return SecretState(aliases, self.annotations, "e")

    def access(self, name: SecretName, version: int | str) -> Payload:
        assert (name, version) == (NAME, 3)
        if self.trouble:
            raise self.trouble
        return Payload(3, Secret(self.material or b""))

    def versions(self, name: SecretName) -> tuple[VersionInfo, ...]:
        assert name == NAME
        return (VersionInfo(3, VersionState.ENABLED, datetime(2026, 1, 1, tzinfo=UTC)),)


def stored(**left: float) -> bytes:
    made = access_token_document(
        Secret(TOKEN), principal="runner@p1.example", expiry=now() + timedelta(**left)
    )
    return made.material.reveal()


@pytest.mark.parametrize(
    ("store", "state"),
    [
        (FakeStore(stored(hours=1)), CredentialState.OK),
        (FakeStore(stored(minutes=14)), CredentialState.DUE),
        (FakeStore(stored(seconds=-1)), CredentialState.EXPIRED),
        (FakeStore(), CredentialState.MISSING),
        (FakeStore(b"{}"), CredentialState.BROKEN),
        (FakeStore(trouble=VersionStateError("disabled")), CredentialState.BROKEN),
        (FakeStore(trouble=NotPermittedError("no")), CredentialState.UNREADABLE),
    ],
    ids=lambda value: value.value if isinstance(value, CredentialState) else "",
)
def test_the_state_says_what_to_look_at(store: Any, state: CredentialState) -> None:
    """Time left, and whether the credential can be read at all, show at a glance."""
    assert facts.row(read_status(store, NAME))["state"] is state


def test_what_is_shown_holds_no_material() -> None:
    """Every field of a credential's record is told, and none holds a part of the token."""
    found = read_status(FakeStore(stored(hours=1)), NAME)  # type: ignore[arg-type]
    told = json.dumps(json_document(facts.record(found)))
    assert "runner@p1.example" in told
    assert TOKEN not in told
    assert TOKEN in stored(hours=1).decode(), "the control: it is there to be leaked"


@pytest.mark.parametrize("target", ["", "runner", "a@b@from:adc", "a@b.c@via:d@e.f", "x y@b.c"])
def test_whose_token_is_minted_must_be_an_account(target: str) -> None:
    """No address smuggles another part of a reference in."""
    with pytest.raises(UsageError, match="no service account"):
        rotating.impersonation(target, [])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("rotate", "x", "--resume", "--abort"), "exclude each other"),
        (("rotate", "x", "--timeout", "5s"), "--timeout is for --wait"),
        (("rotate", "x", "--dry-run", "--abort"), "a new rotation only"),
        (("create", "x"), "--impersonate"),
        (("show", "ya29.pasted-token"), "no name of a secret"),
        (("check", "secret:nonsense"), "no credential reference"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    spanctl: Spanctl, monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], said: str
) -> None:
    """Exit 2, what is wrong and what to do, nothing on stdout; a pasted token isn't repeated."""
    for name in ("PROJECT", "INSTANCE", "DATABASE"):
        monkeypatch.setenv(f"SPANCTL_{name}", "some-thing")
    ended = spanctl("creds", *args)
    assert (ended.exit_code, ended.stdout) == (2, "")
    error, hint = ended.stderr.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert hint.startswith("hint: ")
    assert "pasted-token" not in ended.stderr


# -- end to end


def test_a_credential_is_made_tried_and_rotated(user: User) -> None:
    """From nothing to a rotated credential, each look at it true, and no byte of it told."""
    user.create()
    listed = {row["name"]: row for row in user.json("list")["items"]}
    assert listed[user.secret]["state"] == "ok"
    assert listed[user.secret]["principal"] == user.standins.email("runner")
    assert 3500 < listed[user.secret]["seconds_left"] <= 3600
    planned = user.json("rotate", user.secret, "--dry-run")
    assert (planned["replaces"], user.current()) == (1, 1), "a dry run changes nothing"
    rotated = user.json("rotate", user.secret)
    assert (rotated["outcome"], rotated["version"], rotated["current"]) == ("promoted", 2, 2)
    shown = user.json("show", user.secret)
    assert {row["version"]: row["aliases"] for row in shown["versions"]} == {
        2: ["current"],
        1: ["previous"],
    }
    tried = user.json("check", user.secret)
    assert (tried["reads"], tried["writes"]) == (True, True)
    assert tried["principal"] == user.standins.email("runner")
    assert [row["outcome"] for row in user.json("history", user.secret)["items"]] == [
        "promoted",
        "promoted",
    ]
    who = user.json("whoami")
    assert (who["principal"].partition("@")[2], who["standing"]) == ("localhost", "proven")
    assert user.secret in user("list").stdout


def test_no_byte_of_a_token_is_printed(user: User) -> None:
    """Neither by commands, nor their failures, nor the debug logs of Google's libraries."""
    user.create()
    talkative = {"GOOGLE_SDK_PYTHON_LOGGING_SCOPE": "google", "GRPC_TRACE": "all"}
    for args in (("rotate",), ("show",), ("check",), ("whoami",), ("check", "-o", "json")):
        ended = user(args[0], user.secret, *args[1:], env=talkative)
        assert ended.exit_code == 0, ended.stderr
    closed = {"SPANCTL_SPANNER_ENDPOINT": "127.0.0.1:1", **talkative}
    assert user("check", user.secret, env=closed).exit_code == 3
    payloads = user.payloads()
    printed = "".join(ended.stdout + ended.stderr for ended in user.seen)
    assert leaked(payloads, printed) == 0
    answers = "".join(payload.decode() for payload in payloads)
    assert leaked(payloads, answers) == 2, "the control: the scan finds them where they are"
    assert leaked(payloads, encoded(json.loads(payloads[0])["token"].encode())) == 1


@pytest.mark.parametrize(
    "at",
    [
        "claimed the rotation",
        "created version",
        "promoted version",
    ],
    ids=lambda at: at.partition(" ")[0],
)
def test_a_killed_rotation_is_ended_by_resume(user: User, at: str) -> None:
    """SIGKILL in between: the old credential works at once, and --resume ends with one new."""
    user.create()
    killed = user.failing(at, signal.SIGKILL, "rotate", user.secret)
    assert killed.exit_code == -signal.SIGKILL
    left = user.json("show", user.secret)["state"]
    assert left == ("ok" if at.startswith("promoted") else "abandoned")
    assert user.works(), "no moment without a working credential"
    resumed = user.json("rotate", user.secret, "--resume")
    assert resumed["current"] == 2
    again = user.json("rotate", user.secret, "--resume")
    assert (again["outcome"], again["current"]) == ("nothing", 2), "twice changes nothing"
    assert user.works()


def test_of_two_rotators_one_works_and_the_other_names_it(user: User) -> None:
    """While one is at it, a second one exits 6 and says who is; the first one then ends."""
    user.create()
    command = [sys.executable, "-c", FAILPOINT, "claimed the rotation", str(int(signal.SIGSTOP))]
    first = subprocess.Popen(
        [*command, "creds", "rotate", user.secret, "-o", "json"],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, status = os.waitpid(first.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        second = user("rotate", user.secret)
        assert (second.exit_code, second.stdout) == (6, "")
        assert f"(process {first.pid}) is rotating" in second.stderr
        resumed = user("rotate", user.secret, "--resume")
        assert resumed.exit_code == 6, "it is alive: nobody takes its rotation away"
        aborted = user("rotate", user.secret, "--abort", "--yes")
        assert (aborted.exit_code, aborted.stdout) == (6, "")
        assert f"(process {first.pid}) is rotating" in aborted.stderr
        (row,) = [one for one in user.json("list")["items"] if one["name"] == user.secret]
        assert row["state"] == "rotating"
        first.send_signal(signal.SIGCONT)
        out, err = first.communicate(timeout=60)
    finally:
        first.kill()
        first.wait()
    assert first.returncode == 0, err
    assert json.loads(out)["version"] == 2
    assert len(user.payloads()) == 2
    assert user.current() == 2


def test_a_rotation_is_taken_back(user: User) -> None:
    """--abort needs a yes, and brings the old credential back; nobody loses access."""
    user.create()
    user.json("rotate", user.secret)
    refused = user("rotate", user.secret, "--abort")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert user.current() == 2
    assert user.json("rotate", user.secret, "--abort", "--yes")["outcome"] == "aborted"
    assert user.current() == 1
    assert user.works()


def test_waiting_for_old_versions_may_end_before_they_do(user: User) -> None:
    """--wait with a --timeout exits 8 and says until when the old version is kept."""
    user.create()
    waited = user("rotate", user.secret, "--wait", "--timeout", "1s")
    assert (waited.exit_code, waited.stdout) == (8, "")
    assert re.search(r"are kept until \d{4}-\d\d-\d\dT", waited.stderr)
    assert user.current() == 2, "the rotation itself is done"


def test_a_credential_that_spanner_refuses_is_not_promoted(user: User) -> None:
    """A new credential without the roles is taken back (exit 7); the secret stays without it."""
    email = user.standins.email("rotator")
    made = user("create", user.secret, "--impersonate", email)
    assert (made.exit_code, made.stdout) == (7, "")
    assert "was not let in to Spanner" in made.stderr
    assert user.json("show", user.secret)["state"] == "missing"


@pytest.mark.parametrize(
    ("setting", "value", "code", "said"),
    [
        ("SECRETMANAGER_ENDPOINT", "127.0.0.1:1", 3, "127.0.0.1:1 did not answer"),
        ("IAM_ENDPOINT", "http://127.0.0.1:1", 2, "no https:// address"),
        ("IAM_ENDPOINT", "https://127.0.0.1:1", 2, "token_uri is neither Google's nor"),
        ("CA_FILE", "/nowhere/roots.pem", 2, "ca_file /nowhere/roots.pem can't be read"),
    ],
)
def test_what_is_not_there_is_named(
    user: User, setting: str, value: str, code: int, said: str
) -> None:
    """A service that is down is exit 3, a wrong setting exit 2, both in a line and a hint."""
    ended = user("list", env={f"SPANCTL_{setting}": value})
    assert (ended.exit_code, ended.stdout) == (code, "")
    error, hint = ended.stderr.splitlines()
    assert said in error
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("command", [("show", "nobody"), ("rotate", "nobody")])
def test_a_secret_that_is_not_there(user: User, command: tuple[str, str]) -> None:
    """Exit 5, and JSON for who asked for JSON."""
    ended = user(*command, "-o", "json")
    assert (ended.exit_code, ended.stdout) == (5, "")
    assert json.loads(ended.stderr)["error"]["code"] == "not_found"


def test_nothing_is_made_for_an_account_that_one_may_not_act_as(user: User) -> None:
    """A typo in the account leaves no empty secret behind."""
    made = user("create", user.secret, "--impersonate", f"nobody@{PROJECT}.iam.gserviceaccount.com")
    assert made.exit_code in {4, 5}
    assert user("show", user.secret).exit_code == 5


def test_a_secret_is_made_once(user: User) -> None:
    """A second one of the same name is a conflict, and the first one stays as it is."""
    user.create()
    again = user("create", user.secret, "--impersonate", user.standins.email("reader"))
    assert (again.exit_code, again.stdout) == (6, "")
    assert user.json("show", user.secret)["principal"] == user.standins.email("runner")
