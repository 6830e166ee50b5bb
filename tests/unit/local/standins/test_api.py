"""The HTTPS API, asked nonsense: it answers, and never breaks."""

import json
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.bootstrap import bootstrap, user_address
from spanctl.local.standins.files import Places
from spanctl.local.standins.https import Api
from spanctl.local.standins.iam import Iam
from spanctl.local.standins.oauth import OAuth
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.store import Store
from spanctl.local.standins.tokens import CLOUD_PLATFORM, Tokens

BASE = "https://127.0.0.1:1"
ACCOUNT = "/v1/projects/-/serviceAccounts/runner@p1.iam.gserviceaccount.com"
VERBS = ("generateAccessToken", "signJwt", "setIamPolicy", "testIamPermissions", "disable")

_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
_names = st.sampled_from(
    [
        "scope",
        "delegates",
        "lifetime",
        "payload",
        "policy",
        "bindings",
        "role",
        "members",
        "condition",
        "permissions",
        "accountId",
        "serviceAccount",
        "privateKeyType",
    ]
)
_json = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[Api, str]]:
    """Yield the API, and the authorization of its owner."""
    places = Places(tmp_path / "identity")
    places.create()
    store = Store(places.database)
    tokens, policy = Tokens(store), Policy(store, "p1")
    accounts = Accounts(store, "p1")
    bootstrap(accounts, policy, places, BASE)
    iam, oauth = Iam(store, accounts, tokens, policy, BASE), OAuth(store, accounts, tokens)
    token, _ = tokens.mint(user_address(), frozenset({CLOUD_PLATFORM}), timedelta(hours=1))
    yield Api(iam, oauth, tokens, accounts, BASE), f"Bearer {token}"
    store.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(verb=st.sampled_from(VERBS), body=st.dictionaries(_names, _json, max_size=4))
@example(verb="setIamPolicy", body={"policy": {"bindings": ["x"]}})
@example(verb="setIamPolicy", body={"policy": {"bindings": [{"members": 5}]}})
@example(verb="testIamPermissions", body={"permissions": "x"})
@example(verb="generateAccessToken", body={"scope": ["x"], "delegates": [""]})
@example(verb="generateAccessToken", body={"scope": ["x"], "lifetime": [1]})
def test_odd_bodies_are_answered(api: tuple[Api, str], verb: str, body: dict[str, object]) -> None:
    """Whatever JSON is sent, the answer is one of Google's, with its code and its words."""
    served, owner = api
    data = json.dumps(body).encode()
    status, told = served.answer("POST", f"{ACCOUNT}:{verb}", owner, data)
    if status is not HTTPStatus.OK:
        assert told["error"]["code"] == status.value
        assert status < HTTPStatus.INTERNAL_SERVER_ERROR or verb == "setIamPolicy"
    served.answer("POST", f"{ACCOUNT}:enable", owner, b"")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(method=st.sampled_from(["GET", "POST", "DELETE"]), target=st.text(), body=st.binary())
@example(method="POST", target="/token", body=b"\xff")
@example(method="GET", target="//[", body=b"")
@example(method="POST", target=f"{ACCOUNT}:signJwt", body=b"[" * 100_000)
@example(method="POST", target=f"{ACCOUNT}:signJwt", body=b'{"payload": "%s"}' % (b"[" * 100_000))
@example(method="GET", target="/v1/projects/-/serviceAccounts/x/keys/", body=b"")
def test_odd_requests_are_answered(
    api: tuple[Api, str], method: str, target: str, body: bytes
) -> None:
    """Any path and any bytes are refused in the form that Google's clients read."""
    served, owner = api
    for authorization in (None, owner):
        status, told = served.answer(method, target, authorization, body)
        assert status is HTTPStatus.OK or "error" in told


@pytest.mark.parametrize("verb", VERBS)
def test_nothing_is_done_without_a_token(api: tuple[Api, str], verb: str) -> None:
    """Every method of the API takes a live token; the public endpoints take none."""
    served, _ = api
    status, _ = served.answer("POST", f"{ACCOUNT}:{verb}", None, b"{}")
    assert status is HTTPStatus.UNAUTHORIZED
    for public in ("/healthz", f"/service_accounts/v1/jwk/{ACCOUNT.rpartition('/')[2]}"):
        assert served.answer("GET", public, None, b"")[0] is HTTPStatus.OK
