"""No material leaves a process in a pickle: not to a pool, a cluster, or a store of results.

Prefect's process pool, Dask and Ray carry tasks and their parameters as cloudpickle makes them.
"""

import contextlib
import functools
import io
import json
from collections.abc import Callable
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from types import FunctionType
from typing import Any, Final

import cloudpickle
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.oauth2 import service_account
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from spanctl.credentials.document import CredentialDocument, parse_document
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.iam import AccessToken
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.secret import NotPortableError, Secret
from spanctl.credentials.sources import document_source
from spanctl.credentials.store import GoogleSecretStore
from spanctl.flows import SpannerCredentials
from spanctl.resources import DatabaseName
from spanctl.spanner.client import Database
from spanctl.spanner.rpc import Target
from spanctl.spanner.transaction import Transaction

CANARY: Final = "canary-that-no-pickle-holds"
ENDPOINTS: Final = Endpoints()
TARGET: Final = Target(database=DatabaseName("p1-project", "main", "data"))


@functools.cache
def pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption()).decode()


def document() -> CredentialDocument:
    info = {
        "type": "service_account",
        "client_email": "runner@p1.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": pem(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    return parse_document(Secret(json.dumps(info)))


class Fixed:
    """A source of one token."""

    def fetch(self, *_: Any) -> AccessToken:
        later = datetime.now(UTC) + timedelta(hours=1)
        return AccessToken(token=Secret(CANARY), expiry=later)


def live() -> LiveCredentials:
    made = LiveCredentials(Fixed(), Http(ENDPOINTS))
    made.ensure()
    return made


def transaction() -> Transaction:
    rpc = Database(TARGET, credentials=live()).rpc
    return Transaction(rpc, TARGET, "s", txn_id="t", tag=None, deadline=1.0)


HOLDERS: Final[dict[str, Callable[[], Any]]] = {
    "secret": lambda: Secret(CANARY),
    "its method": lambda: Secret(CANARY).reveal,
    "document": document,
    "token": lambda: Fixed().fetch(),
    "source": lambda: document_source(document(), ENDPOINTS),
    "live": live,
    "its method, too": lambda: live().ensure,
    "store": lambda: GoogleSecretStore(ENDPOINTS, live()),
    "database": lambda: Database(TARGET, credentials=live()),
    "rpc": lambda: Database(TARGET, credentials=live()).rpc,
    "transaction": transaction,
}


def closure(held: Any) -> Any:
    return lambda: held


def default(held: Any) -> Any:
    def function(one: Any = held) -> Any:
        return one

    return function


def global_of_main(held: Any) -> Any:
    """A function of the main module goes by value, with the globals that it names."""

    def function() -> Any:
        return one_of_main  # type: ignore[name-defined]  # noqa: F821

    return FunctionType(function.__code__, {"__name__": "__main__", "one_of_main": held})


def attribute_of_class(held: Any) -> Any:
    return type("Own", (), {"held": held, "__module__": "__main__"})


CARRIERS: Final[dict[str, Callable[[Any], Any]]] = {
    "itself": lambda held: held,
    "a list": lambda held: {"a": [held]},
    "a partial": lambda held: functools.partial(print, held),
    "a closure": closure,
    "a default": default,
    "a global of the main module": global_of_main,
    "a class": attribute_of_class,
    "a task": lambda held: task(closure(held)),
}


def written(carried: Any) -> tuple[bytes, BaseException | None]:
    """Return what cloudpickle wrote, up to what stopped it."""
    stream, stopped = io.BytesIO(), None
    try:
        cloudpickle.Pickler(stream).dump(carried)
    except Exception as error:  # noqa: BLE001 - of any kind
        stopped = error
    return stream.getvalue(), stopped


def gives_away(data: bytes) -> bool:
    lines = pem().splitlines()[1:-1]
    return CANARY.encode() in data or any(line.encode() in data for line in lines)


@pytest.mark.parametrize("held", HOLDERS.values(), ids=HOLDERS.keys())
@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS.keys())
def test_nothing_that_holds_material_is_pickled(
    held: Callable[[], Any], carry: Callable[[Any], Any]
) -> None:
    """Not a byte of it is written before it is refused, in one line that says what to do."""
    data, stopped = written(carry(held()))
    assert not gives_away(data)
    assert isinstance(stopped, NotPortableError)
    assert "can't be pickled: " in stopped.message
    assert "\n" not in stopped.message
    assert not gives_away(stopped.message.encode())


@pytest.mark.parametrize("carry", CARRIERS.values(), ids=CARRIERS.keys())
def test_the_control(carry: Callable[[Any], Any]) -> None:
    """A plain value is carried along each way, and so is Google's own object with a key."""
    assert gives_away(written(carry(CANARY.encode()))[0])
    info = document().reveal_info()
    theirs = service_account.Credentials.from_service_account_info(info)
    assert gives_away(written(carry(theirs))[0])


@pytest.mark.parametrize("held", HOLDERS.values(), ids=HOLDERS.keys())
def test_a_context_variable_carries_nothing(held: Callable[[], Any]) -> None:
    """Python pickles none, whatever it holds."""
    variable = ContextVar[Any]("variable")
    variable.set(held())
    data, stopped = written(closure(variable))
    assert not gives_away(data)
    assert isinstance(stopped, TypeError)


@pytest.mark.parametrize("reference", [TARGET, SpannerCredentials(project="p1", secret="db")])  # noqa: S106 - a name
def test_references_travel(reference: Any) -> None:
    """What is to be passed on instead is pickled, and is whole on the other side."""
    data, stopped = written(closure(reference))
    assert stopped is None
    assert cloudpickle.loads(data)() == reference


@pytest.mark.prefect
@pytest.mark.usefixtures("prefect")
def test_a_pool_is_handed_none() -> None:
    """A task that closes over a secret, or is called with one, fails by that line."""

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def pooled() -> list[str]:
        told = []
        for called, given in (
            (task(closure(Secret(CANARY))), ()),
            (task(default(None)), (live(),)),
        ):
            with contextlib.suppress(NotPortableError):
                called.submit(*given).result()
                told.append("it was handed over")
        return told

    assert pooled() == []
