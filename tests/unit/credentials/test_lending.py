"""What a child gets: tokens for who reads its files, nothing for anybody else, gone in the end."""

import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from spanctl.clock import now
from spanctl.credentials import lending, lent
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.loopback import TokenEndpoint
from spanctl.credentials.rotation.owner import this_owner
from spanctl.credentials.secret import Secret
from spanctl.credentials.sources import DefaultSource
from spanctl.errors import (
    ConfigurationError,
    NotPermittedError,
    SpanctlError,
    UnreachableError,
)
from spanctl.settings import Contexts, resolve

SUBJECT = "the-subject-of-the-tests-of-lending"
TOKEN = "ya29.c.the-token-of-the-tests-of-lending"  # noqa: S105 - found nowhere but here
GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"


def token(text: str = TOKEN, **left: float) -> AccessToken:
    return AccessToken(token=Secret(text), expiry=now() + timedelta(**(left or {"hours": 1})))


class Source:
    """Tokens, one after the other; the last one again and again."""

    def __init__(self, *tokens: AccessToken | SpanctlError) -> None:
        self.tokens = [*tokens]

    def fetch(self, http: Http, rejected: Secret | None) -> AccessToken:
        del http, rejected
        found = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        if isinstance(found, SpanctlError):
            raise found
        return found


def credentials(*tokens: AccessToken | SpanctlError) -> LiveCredentials:
    return LiveCredentials(Source(*tokens), Http(Endpoints()))


def silent(text: str) -> None:
    pytest.fail(f"nothing was to be said, but: {text}")


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[Path]:
    """The folder of somebody who lends a token that lives."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    with lending.lend(credentials(token()), report=silent, environ=environ) as folder:
        yield folder


def asked(folder: Path, *, headers: dict[str, str] | None = None, **form: str) -> requests.Response:
    """Ask the endpoint as a client library does, with some of it replaced."""
    info = json.loads((folder / lent.DOCUMENT).read_text())
    subject = Path(info["credential_source"]["file"]).read_text()
    data = {"grant_type": GRANT, "subject_token": subject, **form}
    sent = {"Content-Type": "application/x-www-form-urlencoded", **(headers or {})}
    return requests.post(info["token_url"], data=urlencode(data), headers=sent, timeout=30)


# -- files


def test_what_is_lent_is_the_owners_alone_and_gone_in_the_end(tmp_path: Path) -> None:
    """Folder and files are private; the document holds no secret; nothing is left."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    with lending.lend(credentials(token()), report=silent, environ=environ) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        files = {path.name: path for path in folder.iterdir()}
        assert {*files} == {"credentials.json", "owner", "subject", "token"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files.values()} == {0o600}
        assert files["token"].read_text() == TOKEN
        told = files["credentials.json"].read_text()
        assert TOKEN not in told
        assert files["subject"].read_text() not in told
        url = json.loads(told)["token_url"]
    assert not [*folder.parent.iterdir()]
    with pytest.raises(requests.ConnectionError):
        requests.post(url, timeout=30)


def test_memory_is_preferred_to_disk(tmp_path: Path) -> None:
    """Where the system offers a folder in memory, no token touches a disk."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path / "disk"), "XDG_RUNTIME_DIR": str(tmp_path)}
    assert lending.place(environ) == tmp_path / "spanctl"
    gone = {**environ, "XDG_RUNTIME_DIR": str(tmp_path / "gone")}
    assert lending.place(gone) == tmp_path / "disk" / "lent"


def test_a_folder_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    """A state folder that is a file: one line, and what to set."""
    (tmp_path / "lent").write_text("")
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    with (
        pytest.raises(ConfigurationError, match="can't keep files"),
        lending.lend(credentials(token()), report=silent, environ=environ),
    ):
        pass


def test_who_has_no_token_lends_nothing(tmp_path: Path) -> None:
    """Without a live token there is no folder, and the reason is told."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    with (
        pytest.raises(NotPermittedError, match="no token for you"),
        lending.lend(
            credentials(NotPermittedError("no token for you")), report=silent, environ=environ
        ),
    ):
        pass
    assert not [*tmp_path.iterdir()]


def test_what_the_killed_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    """Folders of dead owners go, and old ones; those of the living, and of strangers, stay."""

    def folder(name: str, owner: str | None) -> Path:
        made = tmp_path / name
        made.mkdir()
        if owner is not None:
            (made / "owner").write_text(owner)
        return made

    asks = "from spanctl.credentials.rotation.owner import this_owner; print(this_owner())"
    dead = subprocess.run(
        [sys.executable, "-c", asks],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    folder("exec-dead", dead)
    old = folder("exec-old", "another-boot/1/2/3")
    os.utime(old, (time.time() - 14 * 3600,) * 2)
    folder("exec-mine", this_owner())
    folder("exec-young", "another-boot/1/2/3")
    folder("exec-new", None)
    folder("else", dead)
    lending.sweep(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["else", "exec-mine", "exec-new", "exec-young"]


# -- the endpoint


def test_who_reads_the_files_gets_a_token(lender: Path) -> None:
    """The answer is that of a token exchange, with the time that is really left."""
    answer = asked(lender)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["access_token"], told["token_type"]) == (TOKEN, "Bearer")
    assert 3500 < told["expires_in"] <= 3600
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("form", "headers", "status"),
    [
        ({"subject_token": "guessed"}, {}, 401),
        ({"subject_token": "ü"}, {}, 401),
        ({"grant_type": "refresh_token"}, {}, 400),
        ({}, {"Host": "evil.example"}, 400),
        ({}, {"Origin": "https://evil.example"}, 400),
        ({"padding": "x" * 70_000}, {}, 400),
    ],
    ids=["wrong", "not-ascii", "grant", "rebinding", "page", "long"],
)
def test_nobody_else_does(
    lender: Path, form: dict[str, str], headers: dict[str, str], status: int
) -> None:
    """The port is open to everybody on the machine, so each of them is refused."""
    try:
        answer = asked(lender, headers=headers, **form)
    except requests.ConnectionError:
        assert "padding" in form  # refused before all of it was read
    else:
        assert answer.status_code == status
        assert TOKEN not in answer.text
    assert asked(lender).status_code == 200, "and it goes on"


def test_nothing_else_is_served(lender: Path) -> None:
    """Other methods and paths, and clients that say nothing sensible, get no token."""
    url = json.loads((lender / lent.DOCUMENT).read_text())["token_url"]
    assert requests.get(url, timeout=30).status_code == 501
    subject = (lender / lent.SUBJECT).read_text()
    data = {"grant_type": GRANT, "subject_token": subject}
    elsewhere = url.replace("/token", "/other")
    assert requests.post(elsewhere, data=data, timeout=30).status_code == 400
    assert requests.post(url, data=iter([b"a"]), timeout=30).status_code == 400  # no length


@pytest.mark.parametrize(
    ("error", "status"),
    [(UnreachableError("iam did not answer"), 503), (NotPermittedError("taken away"), 400)],
    ids=["later", "never"],
)
def test_an_error_is_passed_on(error: SpanctlError, status: int) -> None:
    """A client library learns whether it is worth another try, and why."""

    def fetch() -> AccessToken:
        raise error

    data = {"grant_type": GRANT, "subject_token": SUBJECT}
    with TokenEndpoint(Secret(SUBJECT), fetch) as endpoint:
        answer = requests.post(endpoint.url, data=data, timeout=30)
    assert (answer.status_code, answer.json()["error_description"]) == (status, error.message)


# -- renewal


def test_the_file_is_renewed_before_its_token_dies(tmp_path: Path) -> None:
    """gcloud finds a live token in the file however long the child runs."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    # google-auth takes a token to be over minutes early; ours is looked for every ten seconds.
    source = credentials(token("the-first-token", seconds=6), token("the-second-token"))
    with lending.lend(source, report=silent, environ=environ) as folder:
        assert (folder / lent.TOKEN).read_text() == "the-first-token"
        eventually(lambda: (folder / lent.TOKEN).read_text() == "the-second-token")
        assert not [*folder.glob(".*")], "written whole or not at all"


def test_that_it_can_not_be_renewed_is_said_once(tmp_path: Path) -> None:
    """The child's owner learns it in one line, not in one a second."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    said: list[str] = []
    failing = [NotPermittedError("taken away") for _ in range(3)]
    source = credentials(token(seconds=6), *failing, token("the-last-token"))
    with lending.lend(source, report=said.append, environ=environ) as folder:
        eventually(lambda: (folder / lent.TOKEN).read_text() == "the-last-token")
    assert said == ["the child's credentials can't be renewed: taken away"]


def test_no_thread_writes_once_it_is_over(tmp_path: Path) -> None:
    """However the end and a renewal meet, no token is left behind."""
    environ = {"SPANCTL_STATE_HOME": str(tmp_path)}
    for number in range(20):
        source = credentials(token(f"token-{number}-a", seconds=5.5), token(f"token-{number}-b"))
        with lending.lend(source, report=lambda _: None, environ=environ):
            pass
    assert not [*(tmp_path / "lent").iterdir()]
    eventually(lambda: "spanctl-token-endpoint" not in {t.name for t in threading.enumerate()})


# -- documents


def test_a_nested_spanctl_takes_what_is_lent(lender: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own default credentials read the document, though its endpoint has no TLS."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(lender / lent.DOCUMENT))
    found = DefaultSource(Endpoints()).fetch(Http(Endpoints()), None)
    assert found.token == Secret(TOKEN)


def changed(path: Path, name: str, value: object) -> None:
    info = json.loads(path.read_text())
    info[name] = value
    path.write_text(json.dumps(info))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: changed(path, "token_url", "http://evil.example/token"),
        lambda path: changed(path, "token_url", "http://127.0.0.1.evil.example:1/token"),
        lambda path: changed(path, "credential_source", {"file": "/etc/hostname"}),
        lambda path: changed(path, "credential_source", {"file": f"{path.parent}/../x"}),
        lambda path: changed(path, "service_account_impersonation_url", "http://127.0.0.1:1/x"),
        lambda path: changed(path, "audience", "//iam.googleapis.com/x"),
        lambda path: path.chmod(0o640),
        lambda path: path.parent.chmod(0o755),
        lambda path: (path.parent / lent.SUBJECT).chmod(0o644),
        lambda path: (path.parent / lent.SUBJECT).unlink(),
    ],
)
def test_nothing_like_it_is_taken(lender: Path, spoil: Callable[[Path], None]) -> None:
    """A document from elsewhere may not have another file sent to another place."""
    path = lender / lent.DOCUMENT
    assert lent.is_lent(path, json.loads(path.read_text()))
    spoil(path)
    assert not lent.is_lent(path, json.loads(path.read_text()))


def test_the_environment_names_files_and_nothing_secret(lender: Path) -> None:
    """What would win over the lent credentials is gone; endpoints are the context's."""
    values = {
        "project": "p1",
        "iam_endpoint": "https://127.0.0.1:1",
        "spanner_endpoint": "127.0.0.1:2",
        "ca_file": "/roots.pem",
    }
    contexts = Contexts(Path("contexts.toml")).with_context("near", values)
    settings = resolve(context="near", environ={}, contexts=contexts)
    before = {
        "PATH": "/bin",
        "NO_PROXY": "example.com",
        "GOOGLE_CREDENTIALS": "{}",
        "CLOUDSDK_AUTH_ACCESS_TOKEN": "other",
        "CLOUDSDK_AUTH_IMPERSONATE_SERVICE_ACCOUNT": "other",
    }
    told = lent.environment(before, lender, settings)
    assert told == {
        "PATH": "/bin",
        "NO_PROXY": "example.com,127.0.0.1",
        "no_proxy": "127.0.0.1",
        "GOOGLE_APPLICATION_CREDENTIALS": str(lender / "credentials.json"),
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(lender / "token"),
        "SPANCTL_ADC_FILE": str(lender / "credentials.json"),
        "SPANCTL_CREDENTIALS": "adc",
        "SPANCTL_CONTEXT": "near",
        "GOOGLE_CLOUD_PROJECT": "p1",
        "CLOUDSDK_CORE_PROJECT": "p1",
        "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE": "/roots.pem",
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": "/roots.pem",
        "REQUESTS_CA_BUNDLE": "/roots.pem",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAM": "https://127.0.0.1:1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS": "https://127.0.0.1:1/",
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_SPANNER": "https://127.0.0.1:2/",
    }
    plain = lent.environment({}, lender, resolve(environ={}, contexts=Contexts(Path("none"))))
    assert not [name for name in plain if "OVERRIDES" in name or "CA" in name.split("_")]
