"""Tokens, keys and the OAuth endpoints, under a clock that the test moves."""

import base64
import json
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spanctl.local.standins import jwt
from spanctl.local.standins.accounts import Accounts
from spanctl.local.standins.bootstrap import bootstrap, user_address
from spanctl.local.standins.files import Places
from spanctl.local.standins.oauth import GOOGLE_TOKEN_URL, GrantError, OAuth
from spanctl.local.standins.policy import Policy
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.store import Store
from spanctl.local.standins.switches import Switches
from spanctl.local.standins.tokens import CLOUD_PLATFORM, EMAIL_SCOPE, Tokens

HOST = "spanner.googleapis.com"
URL = "https://127.0.0.1:1/token"
ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class World:
    """Everybody, a clock and switches."""

    def __init__(self, folder: Path) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.switches = Switches()
        self.places = Places(folder)
        self.places.create()
        self.store = Store(self.places.database, lambda: self.at)
        self.tokens = Tokens(self.store, lambda: self.switches)
        self.policy = Policy(self.store, "p1")
        self.accounts = Accounts(self.store, "p1")
        self.oauth = OAuth(self.store, self.accounts, self.tokens)
        self.email = self.accounts.ensure("runner", "Runs")

    def mint(self, *scopes: str, seconds: int = 60) -> str:
        wanted = frozenset(scopes or (CLOUD_PLATFORM,))
        return self.tokens.mint(self.email, wanted, timedelta(seconds=seconds))[0]

    def admitted(self, token: str, host: str = HOST) -> Status | None:
        try:
            self.tokens.admit(f"Bearer {token}", host)
        except RefusedError as error:
            return error.status
        return None

    def claims(self, **more: Any) -> dict[str, Any]:
        now = int(self.at.timestamp())
        known = {"iss": self.email, "iat": now, "exp": now + 3600, "aud": f"https://{HOST}/"}
        return {**known, **more}

    def granted(self, claims: Mapping[str, Any], pem: str, key_id: str) -> dict[str, Any]:
        assertion = jwt.sign(json.dumps(claims), pem, key_id)
        return self.oauth.token({"grant_type": ASSERTION, "assertion": assertion}, URL)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a new store with one service account."""
    world = World(tmp_path / "identity")
    yield world
    world.store.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, str, str]]:
    """A world with a key, made once: keys take their time."""
    world = World(tmp_path_factory.mktemp("keyed") / "identity")
    key, pem = world.accounts.create_key(world.email)
    yield world, key.key_id, pem
    world.store.close()


@pytest.fixture(autouse=True)
def _on_time(keyed: tuple[World, str, str]) -> None:
    keyed[0].at = datetime(2026, 1, 1, tzinfo=UTC)
    keyed[0].switches = Switches()


def test_a_token_lives_to_the_microsecond(world: World) -> None:
    """It is good until its end, and at its end it is not."""
    token = world.mint(seconds=60)
    world.at += timedelta(seconds=60) - timedelta(microseconds=1)
    assert world.admitted(token) is None
    world.at += timedelta(microseconds=1)
    assert world.admitted(token) is Status.UNAUTHENTICATED


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {}x", "Bearer x{}", "Bearer a.b.c"],
)
def test_headers_that_admit_nobody(world: World, header: str | None) -> None:
    """Only ``Bearer`` and the very token will do; its case doesn't matter."""
    token = world.mint()
    with pytest.raises(RefusedError) as refused:
        world.tokens.admit(header.format(token) if header else header, HOST)
    assert refused.value.status is Status.UNAUTHENTICATED
    assert world.tokens.admit(f"bEARER {token}", HOST).email == world.email


@pytest.mark.parametrize(
    ("scope", "status"),
    [
        (CLOUD_PLATFORM, None),
        ("https://www.googleapis.com/auth/spanner.data", None),
        ("https://www.googleapis.com/auth/cloud-platform.read-only", Status.PERMISSION_DENIED),
        ("https://www.googleapis.com/auth/spanner", Status.PERMISSION_DENIED),
        ("https://www.googleapis.com/auth/secretmanager.data", Status.PERMISSION_DENIED),
        (EMAIL_SCOPE, Status.PERMISSION_DENIED),
    ],
)
def test_scopes(world: World, scope: str, status: Status | None) -> None:
    """A token is for what its scopes name."""
    assert world.admitted(world.mint(scope)) is status


def test_only_digests_are_kept(world: World) -> None:
    """The database can't be used to act as anyone."""
    token = world.mint()
    with sqlite3.connect(world.places.database) as db:
        dump = "\n".join(db.iterdump())
    db.close()
    assert world.email in dump
    assert token.removeprefix("ya29.c.") not in dump


def test_a_token_of_an_account_that_is_switched_off(world: World) -> None:
    """It stops at once, and works again when the account does."""
    token = world.mint()
    world.accounts.set_disabled(world.email, disabled=True)
    assert world.admitted(token) is Status.UNAUTHENTICATED
    world.accounts.set_disabled(world.email, disabled=False)
    assert world.admitted(token) is None


def test_a_self_signed_token_admits_its_account(keyed: tuple[World, str, str]) -> None:
    """For one service by its audience, or by a scope."""
    world, key_id, pem = keyed
    by_audience = jwt.sign(json.dumps(world.claims()), pem, key_id)
    assert world.tokens.admit(f"Bearer {by_audience}", HOST).email == world.email
    assert world.admitted(by_audience, "secretmanager.googleapis.com") is Status.UNAUTHENTICATED
    by_scope = jwt.sign(json.dumps(world.claims(scope=CLOUD_PLATFORM, aud=None)), pem, key_id)
    assert world.admitted(by_scope, "secretmanager.googleapis.com") is None


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "other@p1.iam.gserviceaccount.com"},
        {"sub": "someone@example.com"},
        {"aud": "https://spanner.googleapis.com.evil/"},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": 10**30},
        {"iat": None},
        {"iat": 10**30},
        {"exp": 1767225600 + 4000},
        {"iat": 1767225600 + 3000},
        {"iss": ["runner"]},
    ],
    ids=str,
)
def test_self_signed_tokens_that_are_refused(
    keyed: tuple[World, str, str], change: dict[str, Any]
) -> None:
    """Another issuer, subject, audience or time than allowed is UNAUTHENTICATED."""
    world, key_id, pem = keyed
    token = jwt.sign(json.dumps(world.claims(**change)), pem, key_id)
    assert world.admitted(token) is Status.UNAUTHENTICATED


def test_an_unsigned_token_is_refused(keyed: tuple[World, str, str]) -> None:
    """``alg: none``, a symmetric algorithm and a cut signature admit nobody."""
    world, key_id, pem = keyed
    good = jwt.sign(json.dumps(world.claims()), pem, key_id)
    _, payload, signature = good.split(".")
    for algorithm in ("none", "HS256", "RS512"):
        header = json.dumps({"alg": algorithm, "kid": key_id}).encode()
        text = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
        for end in ("", signature):
            assert world.admitted(f"{text}.{payload}.{end}") is Status.UNAUTHENTICATED
    assert world.admitted(good[:-6]) is Status.UNAUTHENTICATED
    assert world.admitted(good) is None


def test_a_new_key_waits_for_its_lag(keyed: tuple[World, str, str]) -> None:
    """Until it is old enough, it neither signs nor is exchanged."""
    world, key_id, pem = keyed
    world.switches = Switches(keys=60)
    world.at += timedelta(seconds=59)
    assert world.admitted(jwt.sign(json.dumps(world.claims()), pem, key_id)) is not None
    world.at += timedelta(seconds=1)
    assert world.admitted(jwt.sign(json.dumps(world.claims()), pem, key_id)) is None


@pytest.mark.parametrize("audience", [GOOGLE_TOKEN_URL, URL])
def test_an_assertion_is_exchanged(keyed: tuple[World, str, str], audience: str) -> None:
    """For the scopes that it asks, for an hour, whichever endpoint it names."""
    world, key_id, pem = keyed
    claims = world.claims(aud=audience, scope=f"{CLOUD_PLATFORM} {EMAIL_SCOPE}")
    answer = world.granted(claims, pem, key_id)
    told = world.oauth.tokeninfo(answer["access_token"])
    assert (told["email"], told["expires_in"]) == (world.email, "3600")
    assert answer["expires_in"] == 3599


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"aud": f"https://{HOST}/"}, "invalid_grant"),
        ({"exp": 1}, "invalid_grant"),
        ({"scope": None}, "invalid_grant"),
        ({"scope": ""}, "invalid_scope"),
        ({"scope": f"{CLOUD_PLATFORM} x"}, "invalid_scope"),
        ({"sub": "boss@example.com"}, "unauthorized_client"),
        ({"target_audience": "x"}, "unauthorized_client"),
    ],
    ids=str,
)
def test_assertions_that_are_refused(
    keyed: tuple[World, str, str], change: dict[str, Any], error: str
) -> None:
    """What Google's token endpoint refuses is refused, with OAuth's code."""
    world, key_id, pem = keyed
    claims = world.claims(aud=URL, scope=CLOUD_PLATFORM) | change
    if change == {"scope": None}:  # signed by a key that nobody has
        pem, change = jwt.private_pem(jwt.new_key()), {}
    with pytest.raises(GrantError) as refused:
        world.granted(claims, pem, key_id)
    assert refused.value.error == error


def test_an_assertion_of_more_than_an_hour_is_refused(keyed: tuple[World, str, str]) -> None:
    """Not by a second."""
    world, key_id, pem = keyed
    claims = world.claims(aud=URL, scope=CLOUD_PLATFORM)
    assert world.granted(claims, pem, key_id)["access_token"]
    with pytest.raises(GrantError) as refused:
        world.granted(claims | {"exp": claims["exp"] + 1}, pem, key_id)
    assert refused.value.error == "invalid_grant"


def test_an_unknown_grant_type_is_refused(world: World) -> None:
    """Passwords and the like have no place here."""
    for form in ({}, {"grant_type": "password"}):
        with pytest.raises(GrantError) as refused:
            world.oauth.token(form, URL)
        assert refused.value.error == "unsupported_grant_type"


def test_the_user_logs_in_by_the_owner_only_file(world: World) -> None:
    """Refresh token and client secret give an access token; either one wrong gives none."""
    bootstrap(world.accounts, world.policy, world.places, "https://127.0.0.1:1")
    known = json.loads(world.places.user.read_text())
    form = {"grant_type": "refresh_token", **known}
    told = world.oauth.tokeninfo(world.oauth.token(form, URL)["access_token"])
    assert told["email"] == known["account"] == user_address()
    for name in ("refresh_token", "client_id", "client_secret"):
        with pytest.raises(GrantError) as refused:
            world.oauth.token({**form, name: known[name] + "x"}, URL)
        assert refused.value.error == "invalid_grant"


def test_a_second_start_keeps_the_user_s_file(world: World) -> None:
    """It is kept while it works; damaged, or for another port, it is replaced and the old ends."""
    base = "https://127.0.0.1:1"
    bootstrap(world.accounts, world.policy, world.places, base)
    first = world.places.user.read_text()
    bootstrap(world.accounts, world.policy, world.places, base)
    assert world.places.user.read_text() == first
    world.places.user.write_text("damaged")
    bootstrap(world.accounts, world.policy, world.places, base)
    second = world.places.user.read_text()
    with pytest.raises(GrantError):
        world.oauth.token({"grant_type": "refresh_token", **json.loads(first)}, URL)
    assert world.oauth.token({"grant_type": "refresh_token", **json.loads(second)}, URL)
    bootstrap(world.accounts, world.policy, world.places, "https://127.0.0.1:2")
    assert "https://127.0.0.1:2/token" in json.loads(world.places.user.read_text()).values()


def test_a_role_that_was_taken_away_stays_away(world: World) -> None:
    """Roles are granted in a new store only, not at every start."""
    base = "https://127.0.0.1:1"
    bootstrap(world.accounts, world.policy, world.places, base)
    member = f"serviceAccount:{world.email}"
    assert world.policy.allowed(member, "spanner.databases.write", "projects/p1")
    owner = {"roles/owner": [f"user:{user_address()}"]}
    world.policy.replace("projects/p1", owner)
    bootstrap(world.accounts, world.policy, world.places, base)
    assert not world.policy.allowed(member, "spanner.databases.write", "projects/p1")


def test_roles_from_the_beginning(world: World) -> None:
    """Each principal can do its work, and not the others'."""
    bootstrap(world.accounts, world.policy, world.places, "https://127.0.0.1:1")
    user = f"user:{user_address()}"
    runner, reader, rotator = (
        f"serviceAccount:{world.accounts.address(name)}" for name in ("runner", "reader", "rotator")
    )
    project = "projects/p1"
    write, access = "spanner.databases.write", "secretmanager.versions.access"
    mint = "iam.serviceAccounts.getAccessToken"
    target = f"{project}/serviceAccounts/{world.email}"
    held = {
        (member, permission)
        for member in (user, runner, reader, rotator)
        for permission, resource in (
            (write, project),
            ("spanner.databases.select", project),
            (access, project),
            ("secretmanager.versions.add", project),
            ("iam.serviceAccountKeys.create", target),
            (mint, project),
            (mint, target),
        )
        if world.policy.allowed(member, permission, resource)
    }
    assert held == {
        (user, write),
        (user, "spanner.databases.select"),
        (user, access),
        (user, "secretmanager.versions.add"),
        (user, "iam.serviceAccountKeys.create"),
        (user, mint),
        (runner, write),
        (runner, "spanner.databases.select"),
        (runner, access),
        (reader, "spanner.databases.select"),
        (reader, access),
        (rotator, access),
        (rotator, "secretmanager.versions.add"),
        (rotator, "iam.serviceAccountKeys.create"),
        (rotator, mint),
    }
    assert not world.policy.allowed(user, mint, project)


def test_signing_renews_an_old_key(world: World) -> None:
    """When the account's own key ends, the next signature is another key's, and verifies."""
    first, _ = world.accounts.sign(world.email, "{}")
    world.at += timedelta(days=731)
    second, signed = world.accounts.sign(world.email, "{}")
    third, _ = world.accounts.sign(world.email, "{}")
    assert first != second == third
    parsed = jwt.parse(signed)
    assert parsed
    assert jwt.is_signed_by(parsed, world.oauth.certificates(world.email)[second])
    assert first not in world.oauth.certificates(world.email)


def test_google_s_own_key_is_not_the_user_s_to_change(world: World) -> None:
    """It can't be disabled or deleted."""
    key_id, _ = world.accounts.sign(world.email, "{}")
    for change in (
        lambda: world.accounts.delete_key(world.email, key_id),
        lambda: world.accounts.set_key_disabled(world.email, key_id, disabled=True),
    ):
        with pytest.raises(RefusedError) as refused:
            change()
        assert refused.value.status is Status.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("role", "member"),
    [
        ("roles/nonsense", "user:a@b.c"),
        ("roles/owner", "group:a@b.c"),
        ("roles/owner", "allUsers"),
        ("roles/owner", "user:nobody"),
    ],
)
def test_policies_that_are_refused(world: World, role: str, member: str) -> None:
    """A role or a kind of member that isn't modelled is refused, and nothing is written."""
    with pytest.raises(RefusedError):
        world.policy.replace(
            "projects/p1/secrets/s", {"roles/owner": ["user:a@b.c"], role: [member]}
        )
    assert world.policy.bindings("projects/p1/secrets/s") == {}
