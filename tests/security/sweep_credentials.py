"""Whatever raises while credentials are resolved or stored, what is left behind shows no material.

A function of ``sys.settrace`` or ``sys.setprofile`` may raise at any step, as may a signal's
handler at many; and whoever tells of errors may print each frame's variables.
"""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from google.api_core import exceptions
from google.cloud.secretmanager_v1 import AccessSecretVersionResponse, SecretPayload

import spanctl.credentials
from spanctl.credentials import hardening, redact
from spanctl.credentials.crc32c import crc32c
from spanctl.credentials.document import parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName, SecretReference
from spanctl.credentials.secret import Secret
from spanctl.credentials.secretsource import SecretSource
from spanctl.credentials.store import GoogleSecretStore
from spanctl.errors import SpanctlError
from spanctl.orchestration import strays
from spanctl.orchestration.keys import read_file
from spanctl_cli.boundary import failure_of
from tests.security.tracers import HOW, Thrown, shown, sweep

ENDPOINTS: Final = Endpoints()
NAME: Final = SecretName("p1", "db")
CANARY: Final = "canary-0123456789"
ACCOUNT: Final = "runner@p1.iam.gserviceaccount.com"
DOCUMENT: Final = {
    "type": "impersonated_service_account",
    "service_account_impersonation_url": f"https://iamcredentials.googleapis.com/v1/projects/-"
    f"/serviceAccounts/{ACCOUNT}:generateAccessToken",
    "source_credentials": {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": f"{CANARY}-client",
        "refresh_token": f"{CANARY}-refresh",
    },
}
MATERIAL: Final = Secret(json.dumps(DOCUMENT))
_FRAMES: Final = 3
_PATIENCE: Final = 5.0
BROKEN: Final = Secret(json.dumps({"type": "spanctl_access_token", "token": f"{CANARY}-token"}))


def answer(url: str, **_: Any) -> Any:
    """Answer as IAM and the token endpoint do."""
    minted = {"accessToken": f"{CANARY}-minted", "expireTime": "2099-01-01T00:00:00Z"}
    given = {"access_token": f"{CANARY}-base", "expires_in": 3600}
    told = minted if "generateAccessToken" in url else given
    return SimpleNamespace(status=200, data=json.dumps(told).encode(), headers={})


class SecretManager:
    """Google's client, as far as it is asked."""

    def __init__(self, *, damaged: bool = False) -> None:
        self.damaged = damaged

    def access_secret_version(self, **_: Any) -> AccessSecretVersionResponse:
        data = MATERIAL.reveal()
        payload = SecretPayload(data=data, data_crc32c=crc32c(data) + self.damaged)
        return AccessSecretVersionResponse(name=NAME.version(1), payload=payload)

    def add_secret_version(self, **_: Any) -> Any:
        msg = "no"
        raise exceptions.PermissionDenied(msg)


def store(client: SecretManager) -> GoogleSecretStore:
    made = GoogleSecretStore(ENDPOINTS, cast("Any", None))
    made._opened[ENDPOINTS.secretmanager_of(None)] = cast("Any", client)  # noqa: SLF001 - no server
    return made


def resolve() -> None:
    http = Http(ENDPOINTS)
    http._request = cast("Any", answer)  # noqa: SLF001 - no server
    source = SecretSource(store(SecretManager()), SecretReference(NAME), ENDPOINTS)
    LiveCredentials(source, http).ensure()


def be_refused() -> None:
    store(SecretManager()).add(NAME, MATERIAL)


def be_damaged() -> None:
    store(SecretManager(damaged=True)).access(NAME, 1)


def be_incomplete() -> None:
    parse_document(BROKEN)


FAILING: Final[dict[str, Callable[[], None]]] = {
    "a version that may not be added": be_refused,
    "a payload that is damaged": be_damaged,
    "a document that is incomplete": be_incomplete,
}
OPERATIONS: Final[dict[str, Callable[[], None]]] = {"a resolve": resolve, **FAILING}


def is_meant(filename: str) -> bool:
    return filename.startswith(str(Path(spanctl.credentials.__file__).parent))


def let_go() -> bool:
    """Let go of the redactor's lock, where the tracer kept its block from it; tell if that works.

    Whoever tells of the error needs it, in this thread.
    """
    lock: Any = redact.REDACTOR._lock  # noqa: SLF001 - of all that uses it
    is_free = lock.acquire(timeout=_PATIENCE)
    with contextlib.suppress(RuntimeError):  # it is let go of; else all that comes later hangs
        while True:
            lock.release()
    return bool(is_free)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_whatever_raises_leaves_no_material(operation: Callable[[], None], how: str) -> None:
    """No frame that it leaves holds any in its variables, and what is printed shows none."""
    thrown = 0
    for step, ended in sweep(operation, how, is_meant):
        assert let_go(), f"nothing could be told of what was raised at {step}"
        if step[0] == hardening.__file__ and step[2] == "call":
            continue  # as the emptying is entered: no line of ours runs that could empty anything
        assert CANARY not in shown(ended.error, but=__file__), step
        assert ended.error is not None, step
        told = failure_of(ended.error, ["--debug"]).document()
        assert CANARY not in json.dumps(told) + hardening.format_exception(ended.error), step
        thrown += isinstance(ended.error, Thrown)
    assert thrown > 20, "the tracer has raised"


@pytest.mark.parametrize("operation", FAILING.values(), ids=FAILING.keys())
def test_what_fails_by_itself_leaves_none(operation: Callable[[], None]) -> None:
    """So it is without a tracer."""
    with pytest.raises(SpanctlError) as caught:
        operation()
    assert CANARY not in shown(caught.value, but=__file__)


@pytest.mark.parametrize(
    ("read", "content"),
    [(read_file, CANARY), (strays.read, f'PREFECT_API_KEY="{CANARY}\\n"\n')],
    ids=["the file of a context", "a file that is taken over"],
)
def test_a_file_that_is_refused_is_not_left_in_a_frame(
    read: Callable[[Path], Any], content: str, tmp_path: Path
) -> None:
    """What opens Prefect's API was read when it is refused."""
    kept = tmp_path / ".env"
    kept.write_text(content)
    kept.chmod(0o644)
    with pytest.raises(SpanctlError) as caught:
        read(kept)
    assert CANARY not in shown(caught.value, but=__file__)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_the_control(operation: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no frame is emptied, material is found in them."""
    monkeypatch.setattr(hardening, "forget_locals", lambda _: None)
    found = 0
    for _, ended in sweep(operation, HOW[0], is_meant):
        let_go()
        found += CANARY in shown(ended.error, but=__file__)
    assert found


def test_all_that_led_to_an_error_is_emptied() -> None:
    """Its cause, what was handled then as well, and each of a group, however deep."""

    def fail() -> None:
        value = f"{CANARY}-{len(CANARY)}"
        raise ValueError(len(value))

    def several() -> None:
        errors: list[Exception] = []
        for _ in range(2):
            try:
                fail()
            except ValueError as error:
                errors.append(error)
        try:
            fail()
        except ValueError:
            msg = "several"
            raise ExceptionGroup(msg, [errors[0]]) from errors[1]

    with pytest.raises(ExceptionGroup) as caught:
        several()
    assert shown(caught.value).count(CANARY) >= _FRAMES, "the control"
    with pytest.raises(ExceptionGroup) as caught, hardening.without_locals():
        several()
    assert CANARY not in shown(caught.value)
