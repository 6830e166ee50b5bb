"""Secret Manager and IAM as Google's own clients find them, in a process of their own."""

import base64
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import google.auth.jwt
import grpc
import pytest
from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.auth.transport.requests import Request
from google.cloud.secretmanager_v1 import Secret, SecretManagerServiceClient, SecretVersion
from google.iam.v1.policy_pb2 import Binding, Policy
from google.oauth2.credentials import Credentials
from google.protobuf.field_mask_pb2 import FieldMask

from spanctl.credentials.crc32c import crc32c
from spanctl.local.standins.switches import Switches
from spanctl.printable import UNSAFE
from tests.fixtures.cli import child_environment
from tests.local.identity import PARENT, PROJECT, SCOPE, Keyed, StandIns, environment

LIST = "/google.cloud.secretmanager.v1.SecretManagerService/ListSecrets"
EVERYONE = ("runner", "reader", "rotator")
AUTOMATIC = {"replication": {"automatic": {}}}


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """The module's stand-ins; requests trusts their CA."""
    patch = pytest.MonkeyPatch()
    served = StandIns(tmp_path_factory.mktemp("standins") / "identity").start()
    patch.setenv("REQUESTS_CA_BUNDLE", str(served.places.bundle))
    yield served
    patch.undo()
    assert served.stop() == 0
    assert "Traceback" not in served.log.read_text()


@pytest.fixture(scope="module")
def client(standins: StandIns) -> SecretManagerServiceClient:
    """Google's client, as the local user, who owns the project."""
    return standins.secret_manager(standins.user())


@pytest.fixture
def secret(client: SecretManagerServiceClient, request: pytest.FixtureRequest) -> str:
    """A new secret's name."""
    wanted = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:200]
    return client.create_secret(parent=PARENT, secret_id=wanted, secret=AUTOMATIC).name


@pytest.fixture
def switch(standins: StandIns) -> Iterator[Callable[..., None]]:
    """A function that throws switches; they are back after the test."""
    yield lambda **given: Switches(**given).save(standins.places.switches)
    standins.places.switches.unlink(missing_ok=True)


def add(client: SecretManagerServiceClient, secret: str, data: bytes) -> SecretVersion:
    payload = {"data": data, "data_crc32c": crc32c(data)}
    return client.add_secret_version(parent=secret, payload=payload)


def update(client: SecretManagerServiceClient, mask: list[str], **fields: Any) -> Secret:
    return client.update_secret(secret=Secret(**fields), update_mask=FieldMask(paths=mask))


def refusal(channel: grpc.Channel, method: str, metadata: Any = ()) -> grpc.StatusCode:
    """Return the status with which an empty request is refused."""
    with pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(method)(b"", metadata=metadata, timeout=10)
    status: grpc.StatusCode = refused.value.code()
    return status


# Secret Manager


def test_a_payload_comes_back_with_its_checksum(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """What was added is accessed whole, under the version's number, with CRC32C."""
    data = bytes(range(256)) * 256  # 64 KiB
    added = add(client, secret, data)
    assert added.name == f"{secret}/versions/1"
    assert added.client_specified_payload_checksum
    answer = client.access_secret_version(name=f"{secret}/versions/latest")
    assert answer.name == added.name
    assert answer.payload.data == data
    assert answer.payload.data_crc32c == crc32c(data)


def test_names_tell_the_project_s_number(client: SecretManagerServiceClient, secret: str) -> None:
    """Answers name the project by number, as Google's do; both forms are taken."""
    number = re.fullmatch(r"projects/(\d{12})/secrets/(.+)", secret)
    assert number
    again = client.get_secret(name=f"{PARENT}/secrets/{number[2]}")
    assert again == client.get_secret(name=secret)


@pytest.mark.parametrize("size", [0, 64 * 1024 + 1])
def test_a_payload_has_1_byte_to_64_kib(
    client: SecretManagerServiceClient, secret: str, size: int
) -> None:
    """Anything else is refused, and no number is used up."""
    with pytest.raises(exceptions.InvalidArgument):
        add(client, secret, b"x" * size)
    assert add(client, secret, b"x").name.endswith("/versions/1")


def test_a_wrong_checksum_is_refused(client: SecretManagerServiceClient, secret: str) -> None:
    """A payload damaged on its way is not stored."""
    with pytest.raises(exceptions.InvalidArgument):
        client.add_secret_version(parent=secret, payload={"data": b"good", "data_crc32c": 1})
    assert list(client.list_secret_versions(parent=secret)) == []


def test_no_checksum_is_made_up_for(client: SecretManagerServiceClient, secret: str) -> None:
    """Without a checksum the service computes it and says that it was not given."""
    added = client.add_secret_version(parent=secret, payload={"data": b"good"})
    assert not added.client_specified_payload_checksum
    assert client.access_secret_version(name=added.name).payload.data_crc32c == crc32c(b"good")


def test_a_stale_etag_changes_nothing(client: SecretManagerServiceClient, secret: str) -> None:
    """Of two who read the same etag, the second one's update fails and leaves no trace."""
    read = client.get_secret(name=secret)
    first = update(client, ["labels"], name=secret, etag=read.etag, labels={"by": "first"})
    assert first.etag != read.etag
    with pytest.raises(exceptions.FailedPrecondition):
        update(client, ["labels"], name=secret, etag=read.etag, labels={"by": "second"})
    assert dict(client.get_secret(name=secret).labels) == {"by": "first"}


def test_an_omitted_etag_writes_unconditionally(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """Etags are optional: who leaves them out overwrites."""
    update(client, ["labels"], name=secret, labels={"by": "first"})
    update(client, ["labels"], name=secret, labels={"by": "second"})
    assert dict(client.get_secret(name=secret).labels) == {"by": "second"}


def test_an_update_that_changes_nothing_changes_the_etag(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """A version's etag moves with each request on it, and the secret's does not move with it."""
    before = add(client, secret, b"x")
    etag = client.get_secret(name=secret).etag
    after = client.enable_secret_version(name=before.name)
    assert after.etag != before.etag
    with pytest.raises(exceptions.FailedPrecondition):
        client.disable_secret_version(request={"name": before.name, "etag": before.etag})
    assert client.get_secret_version(name=before.name).state is SecretVersion.State.ENABLED
    assert client.get_secret(name=secret).etag == etag


def test_only_masked_fields_are_written(client: SecretManagerServiceClient, secret: str) -> None:
    """The mask says what an update touches; what it names is replaced whole."""
    add(client, secret, b"x")
    fields = {"labels": {"a": "1"}, "annotations": {"k": "v"}, "version_aliases": {"current": 1}}
    update(client, [*fields], name=secret, **fields)
    update(client, ["annotations"], name=secret, labels={"b": "2"}, annotations={"other": "w"})
    now = client.get_secret(name=secret)
    assert dict(now.labels) == {"a": "1"}
    assert dict(now.annotations) == {"other": "w"}
    assert dict(now.version_aliases) == {"current": 1}


@pytest.mark.parametrize("mask", [[], ["name"], ["etag"], ["replication"], ["nonsense"]])
def test_masks_that_are_refused(
    client: SecretManagerServiceClient, secret: str, mask: list[str]
) -> None:
    """No mask, an immutable field and an unknown one are invalid arguments."""
    with pytest.raises(exceptions.InvalidArgument):
        update(client, mask, name=secret, labels={"a": "1"})


@pytest.mark.parametrize(
    "fields",
    [
        {"annotations": {"k": "v" * 16_384}},
        {"annotations": {"-k": "v"}},
        {"labels": {"Upper": "v"}},
        {"labels": {"k": "v" * 64}},
        {"version_aliases": {"latest": 1}},
        {"version_aliases": {"1st": 1}},
        {"version_aliases": {"future": 2}},
        {"version_aliases": {f"a{n}": 1 for n in range(51)}},
        {"version_destroy_ttl": timedelta(hours=23)},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_values_that_are_refused(
    client: SecretManagerServiceClient, secret: str, fields: dict[str, Any]
) -> None:
    """Google's limits on annotations, labels, aliases and delays hold."""
    add(client, secret, b"x")
    before = client.get_secret(name=secret)
    with pytest.raises(exceptions.InvalidArgument):
        update(client, [*fields], name=secret, **fields)
    assert client.get_secret(name=secret) == before


def test_annotations_hold_just_under_16_kib(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """A journal may fill its place to the last byte."""
    told = update(client, ["annotations"], name=secret, annotations={"k": "v" * 16_382})
    assert len(told.annotations["k"]) == 16_382


def test_states_of_a_version(client: SecretManagerServiceClient, secret: str) -> None:
    """Disabled is refused and comes back; destroyed is refused for good."""
    name = add(client, secret, b"x").name
    client.disable_secret_version(name=name)
    with pytest.raises(exceptions.FailedPrecondition, match="is in DISABLED state"):
        client.access_secret_version(name=name)
    client.enable_secret_version(name=name)
    assert client.access_secret_version(name=name).payload.data == b"x"
    gone = client.destroy_secret_version(name=name)
    assert gone.state is SecretVersion.State.DESTROYED
    assert gone.destroy_time
    with pytest.raises(exceptions.FailedPrecondition, match="is in DESTROYED state"):
        client.access_secret_version(name=name)
    for change in (client.enable_secret_version, client.destroy_secret_version):
        with pytest.raises(exceptions.FailedPrecondition):
            change(name=name)


def test_destroyed_payloads_leave_no_bytes(
    standins: StandIns, client: SecretManagerServiceClient, secret: str
) -> None:
    """Once a version is destroyed, no file holds its payload; before, the search finds it."""

    def files_hold(needle: bytes) -> bool:
        return any(needle in path.read_bytes() for path in standins.folder.iterdir())

    needle = b"needle-in-the-haystack" * 3
    name = add(client, secret, needle).name
    assert files_hold(needle)
    client.destroy_secret_version(name=name)
    assert not files_hold(needle)


def test_destruction_can_wait(client: SecretManagerServiceClient, secret: str) -> None:
    """With a delay, destroy disables and schedules; enable saves the version."""
    name = add(client, secret, b"x").name
    update(client, ["version_destroy_ttl"], name=secret, version_destroy_ttl=timedelta(days=1))
    waiting = client.destroy_secret_version(name=name)
    assert waiting.state is SecretVersion.State.DISABLED
    assert waiting.scheduled_destroy_time
    saved = client.enable_secret_version(name=name)
    assert not saved.scheduled_destroy_time
    assert client.access_secret_version(name=name).payload.data == b"x"


def test_aliases_name_versions(client: SecretManagerServiceClient, secret: str) -> None:
    """An alias gets and accesses a version, and can't be used to change one."""
    for data in (b"1", b"2"):
        add(client, secret, data)
    update(client, ["version_aliases"], name=secret, version_aliases={"current": 1})
    by_alias = f"{secret}/versions/current"
    assert client.access_secret_version(name=by_alias).payload.data == b"1"
    assert client.get_secret_version(name=by_alias).name == f"{secret}/versions/1"
    with pytest.raises(exceptions.InvalidArgument):
        client.disable_secret_version(name=by_alias)
    with pytest.raises(exceptions.NotFound):
        client.access_secret_version(name=f"{secret}/versions/pending")


def test_aliases_latest_and_states_can_lag(
    client: SecretManagerServiceClient, secret: str, switch: Callable[..., None]
) -> None:
    """Switched on, what was changed just now isn't seen by alias, by ``latest`` or by access."""
    first = add(client, secret, b"1")
    update(client, ["version_aliases"], name=secret, version_aliases={"current": 1})
    client.disable_secret_version(name=first.name)
    switch(aliases=3600, latest=3600, states=3600)
    for name in ("current", "latest"):
        with pytest.raises(exceptions.NotFound):
            client.access_secret_version(name=f"{secret}/versions/{name}")
    assert client.access_secret_version(name=first.name).payload.data == b"1"
    assert client.get_secret_version(name=first.name).state is SecretVersion.State.DISABLED
    assert dict(client.get_secret(name=secret).version_aliases) == {"current": 1}
    switch()
    with pytest.raises(exceptions.FailedPrecondition):
        client.access_secret_version(name=f"{secret}/versions/current")


def test_corruption_shows_in_the_checksum(
    client: SecretManagerServiceClient, secret: str, switch: Callable[..., None]
) -> None:
    """Switched on, what arrives is not what its checksum says."""
    name = add(client, secret, b"good").name
    switch(corrupt=True)
    payload = client.access_secret_version(name=name).payload
    assert payload.data != b"good"
    assert crc32c(payload.data) != payload.data_crc32c


def test_a_lost_reply_has_taken_effect(
    client: SecretManagerServiceClient, secret: str, switch: Callable[..., None]
) -> None:
    """Switched on, the client sees UNAVAILABLE and the version is there all the same."""
    switch(lose=("AddSecretVersion",))
    with pytest.raises(exceptions.ServiceUnavailable):
        client.add_secret_version(parent=secret, payload={"data": b"x"}, retry=None)
    assert len(list(client.list_secret_versions(parent=secret))) == 1


def test_damaged_switches_are_told(
    standins: StandIns, client: SecretManagerServiceClient, secret: str
) -> None:
    """A file that can't be read is an error of each answer, over both transports, and no crash."""
    document = standins.new_key("runner")
    standins.places.switches.write_text("{")
    try:
        with pytest.raises(exceptions.InternalServerError, match="no JSON"):
            client.get_secret(name=secret)
        with pytest.raises(GoogleAuthError, match="no JSON"):
            Keyed.from_service_account_info(document, scopes=[SCOPE]).refresh(Request())
    finally:
        standins.places.switches.unlink()
    assert client.get_secret(name=secret).name == secret


def test_concurrent_adds_get_numbers_of_their_own(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """Sixteen at once make sixteen versions, each with its own payload."""
    payloads = [f"payload {n}".encode() for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(lambda data: add(client, secret, data).name, payloads))
    assert len(set(names)) == 16
    for name, data in zip(names, payloads, strict=True):
        assert client.access_secret_version(name=name).payload.data == data


def test_of_concurrent_updates_with_one_etag_one_wins(
    client: SecretManagerServiceClient, secret: str
) -> None:
    """Eight compare-and-swaps on the same etag: exactly one succeeds."""
    etag = client.get_secret(name=secret).etag

    def swap(n: int) -> bool:
        try:
            update(client, ["labels"], name=secret, etag=etag, labels={"by": f"n{n}"})
        except exceptions.FailedPrecondition:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(swap, range(8))) == 1


def test_lists_are_newest_first_and_paged(client: SecretManagerServiceClient, secret: str) -> None:
    """Pages join to the whole list; filters by state hold."""
    names = [add(client, secret, b"x").name for _ in range(5)]
    client.disable_secret_version(name=names[1])
    listed = client.list_secret_versions(request={"parent": secret, "page_size": 2})
    assert [version.name for version in listed] == names[::-1]
    off = client.list_secret_versions(request={"parent": secret, "filter": "state:DISABLED"})
    assert [version.name for version in off] == [names[1]]
    labelled = update(client, ["labels"], name=secret, labels={"kind": "paged"})
    found = client.list_secrets(request={"parent": PARENT, "filter": "labels.kind=paged"})
    assert list(found) == [labelled]


@pytest.mark.parametrize(
    ("method", "name", "error"),
    [
        ("get_secret", f"{PARENT}/secrets/absent", exceptions.NotFound),
        ("delete_secret", f"{PARENT}/secrets/absent", exceptions.NotFound),
        ("access_secret_version", f"{PARENT}/secrets/absent/versions/1", exceptions.NotFound),
        ("get_secret", f"{PARENT}/secrets/bad.name", exceptions.InvalidArgument),
        ("get_secret", "projects/elsewhere/secrets/x", exceptions.PermissionDenied),
        ("get_secret_version", f"{PARENT}/secrets/x", exceptions.InvalidArgument),
    ],
)
def test_names_that_lead_nowhere(
    client: SecretManagerServiceClient, method: str, name: str, error: type[Exception]
) -> None:
    """Each has the code that Google's service gives."""
    with pytest.raises(error):
        getattr(client, method)(name=name)


def test_a_secret_is_created_once(client: SecretManagerServiceClient, secret: str) -> None:
    """A second one of that id meets ALREADY_EXISTS; deleted with a right etag, it is gone."""
    wanted = secret.rpartition("/")[2]
    with pytest.raises(exceptions.AlreadyExists):
        client.create_secret(parent=PARENT, secret_id=wanted, secret=AUTOMATIC)
    with pytest.raises(exceptions.FailedPrecondition):
        client.delete_secret(request={"name": secret, "etag": '"wrong"'})
    add(client, secret, b"old")
    client.delete_secret(request={"name": secret, "etag": client.get_secret(name=secret).etag})
    client.create_secret(parent=PARENT, secret_id=wanted, secret=AUTOMATIC)
    with pytest.raises(exceptions.NotFound):
        client.access_secret_version(name=f"{secret}/versions/1")


@pytest.mark.parametrize(
    ("secret_id", "fields", "error"),
    [
        ("x" * 256, AUTOMATIC, exceptions.InvalidArgument),
        ("dots.are.bad", AUTOMATIC, exceptions.InvalidArgument),
        ("no-replication", {}, exceptions.InvalidArgument),
        ("topics", {**AUTOMATIC, "topics": [{"name": "t"}]}, exceptions.MethodNotImplemented),
    ],
)
def test_secrets_that_are_not_created(
    client: SecretManagerServiceClient,
    secret_id: str,
    fields: dict[str, Any],
    error: type[Exception],
) -> None:
    """What Google refuses is refused, and what isn't modelled is refused by name."""
    with pytest.raises(error):
        client.create_secret(parent=PARENT, secret_id=secret_id, secret=fields)


# Access per principal


def test_a_grant_on_one_secret_opens_no_other(standins: StandIns, secret: str) -> None:
    """secretVersionManager on a secret may add there, not access, and nothing elsewhere."""
    owner = standins.secret_manager(standins.user())
    token = standins.user_token()
    made = standins.http(
        "POST", f"/v1/{PARENT}/serviceAccounts", {"accountId": "nobody-yet"}, token
    )
    assert made.status == 200, made
    email = made.data["email"]
    creator = "roles/iam.serviceAccountTokenCreator"
    policy = {"bindings": [{"role": creator, "members": ["user:" + user_of(standins)]}]}
    path = f"/v1/projects/-/serviceAccounts/{email}:setIamPolicy"
    assert standins.http("POST", path, {"policy": policy}, token).status == 200
    nobody = standins.secret_manager(standins.acting_as("nobody-yet"))
    with pytest.raises(exceptions.PermissionDenied):
        add(nobody, secret, b"x")
    manager = Binding(
        role="roles/secretmanager.secretVersionManager", members=[f"serviceAccount:{email}"]
    )
    owner.set_iam_policy(request={"resource": secret, "policy": Policy(bindings=[manager])})
    name = add(nobody, secret, b"x").name
    nobody.disable_secret_version(name=name)
    for refused in (
        lambda: nobody.access_secret_version(name=name),
        lambda: nobody.get_secret(name=secret),
        lambda: nobody.delete_secret(name=secret),
        lambda: add(nobody, f"{PARENT}/secrets/other", b"x"),
        lambda: nobody.list_secrets(parent=PARENT),
    ):
        with pytest.raises(exceptions.PermissionDenied):
            refused()
    asked = ["secretmanager.versions.add", "secretmanager.versions.access"]
    held = nobody.test_iam_permissions(request={"resource": secret, "permissions": asked})
    assert list(held.permissions) == asked[:1]


def test_concurrent_policy_changes_are_told(standins: StandIns, secret: str) -> None:
    """A policy written with a stale etag is refused."""
    owner = standins.secret_manager(standins.user())
    stale = owner.get_iam_policy(request={"resource": secret})
    accessor = Binding(
        role="roles/secretmanager.secretAccessor", members=["user:someone@example.com"]
    )
    written = Policy(bindings=[accessor], etag=stale.etag)
    owner.set_iam_policy(request={"resource": secret, "policy": written})
    with pytest.raises(exceptions.Aborted):
        owner.set_iam_policy(request={"resource": secret, "policy": stale})
    assert list(owner.get_iam_policy(request={"resource": secret}).bindings) == [accessor]


def test_runner_and_reader_access_and_do_not_change(
    standins: StandIns, client: SecretManagerServiceClient, secret: str
) -> None:
    """Those who only use credentials resolve and access them, and can't add or promote."""
    add(client, secret, b"x")
    for name in ("runner", "reader"):
        user = standins.secret_manager(standins.acting_as(name))
        assert user.get_secret(name=secret).name == secret
        assert user.access_secret_version(name=f"{secret}/versions/1").payload.data == b"x"
        for refused in (
            lambda user=user: add(user, secret, b"y"),
            lambda user=user: update(user, ["labels"], name=secret, labels={"a": "1"}),
            lambda user=user: user.destroy_secret_version(name=f"{secret}/versions/1"),
        ):
            with pytest.raises(exceptions.PermissionDenied):
                refused()


# Tokens


def user_of(standins: StandIns) -> str:
    return str(json.loads(standins.places.user.read_text())["account"])


@pytest.mark.parametrize("token", ["", "nonsense", "ya29.c.forged", "a.b.c"])
def test_a_token_that_nobody_minted_gets_nothing(standins: StandIns, token: str) -> None:
    """Missing, foreign and forged tokens are UNAUTHENTICATED, over gRPC and over HTTPS."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    target = f"127.0.0.1:{standins.ports['secretmanager']}"
    with grpc.secure_channel(target, standins.roots()) as channel:
        assert refusal(channel, LIST, metadata) is grpc.StatusCode.UNAUTHENTICATED
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:generateAccessToken"
    assert standins.http("POST", path, {"scope": [SCOPE]}, token).status == 401


def test_a_token_ends_when_it_says(standins: StandIns) -> None:
    """A token of one second is refused after it, by Secret Manager and by tokeninfo."""
    short = standins.acting_as("runner", lifetime=1)
    short.refresh(Request())
    token = str(short.token)
    threading.Event().wait(1.1)
    assert standins.http("GET", f"/tokeninfo?access_token={token}").status == 400
    expired = standins.secret_manager(Credentials(token))
    with pytest.raises(exceptions.Unauthenticated):
        expired.get_secret(name=f"{PARENT}/secrets/x", retry=None)


@pytest.mark.parametrize("lifetime", ["0s", "0.9s", "3600.5s", "3601s", "-5s", "1h", "s", "٣s", 5])
def test_lifetimes_that_are_refused(standins: StandIns, lifetime: Any) -> None:
    """A token lives for 1 to 3600 seconds."""
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:generateAccessToken"
    body = {"scope": [SCOPE], "lifetime": lifetime}
    answer = standins.http("POST", path, body, standins.user_token())
    assert (answer.status, answer.data["error"]["status"]) == (400, "INVALID_ARGUMENT")


@pytest.mark.parametrize(
    "scope",
    ["x", "https://www.googleapis.com/auth/spanner", "https://evil.example/auth/spanner.data"],
)
def test_scopes_that_do_not_exist_are_refused(standins: StandIns, scope: str) -> None:
    """Also beside one that does."""
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:generateAccessToken"
    answer = standins.http("POST", path, {"scope": [SCOPE, scope]}, standins.user_token())
    assert (answer.status, answer.data["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_a_scope_bounds_a_token(standins: StandIns, secret: str) -> None:
    """A token for Spanner alone is no good at Secret Manager."""
    narrow = standins.acting_as("runner", scopes=["https://www.googleapis.com/auth/spanner.data"])
    with pytest.raises(exceptions.PermissionDenied, match="insufficient authentication scopes"):
        standins.secret_manager(narrow).get_secret(name=secret)


def test_tokeninfo_tells_the_address_only_if_the_scope_allows(standins: StandIns) -> None:
    """As at Google, it takes the scope userinfo.email."""
    for scopes, told in (([SCOPE], None), (None, standins.email("runner"))):
        credentials = standins.acting_as("runner", **({"scopes": scopes} if scopes else {}))
        credentials.refresh(Request())
        answer = standins.http("GET", f"/tokeninfo?access_token={credentials.token}")
        assert answer.status == 200
        assert answer.data.get("email") == told
        assert 0 < int(answer.data["expires_in"]) <= 3600


def test_acting_as_takes_a_grant_at_every_link(standins: StandIns) -> None:
    """User to rotator to runner works with each link granted, and only then."""
    chained = standins.acting_as("runner", delegates=[standins.email("rotator")])
    chained.refresh(Request())
    assert chained.token
    for source, delegate in (("runner", None), ("reader", "rotator"), ("rotator", "reader")):
        path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:generateAccessToken"
        if source == "runner":
            path = path.replace("runner", "rotator")
        token = standins.acting_as(source)
        token.refresh(Request())
        body: dict[str, Any] = {"scope": [SCOPE]}
        if delegate:
            body["delegates"] = [f"projects/-/serviceAccounts/{standins.email(delegate)}"]
        answer = standins.http("POST", path, body, str(token.token))
        assert answer.status == 403, (source, delegate)


def test_unknown_accounts_are_not_told_from_forbidden_ones(standins: StandIns) -> None:
    """Who may not act as an account doesn't learn whether it exists."""
    token = standins.acting_as("reader")
    token.refresh(Request())
    answers = [
        standins.http(
            "POST",
            f"/v1/projects/-/serviceAccounts/{standins.email(name)}:generateAccessToken",
            {"scope": [SCOPE]},
            str(token.token),
        )
        for name in ("runner", "absent")
    ]
    assert answers[0] == answers[1]
    assert answers[0].status == 403


def test_a_signed_jwt_verifies_with_the_published_certificates(standins: StandIns) -> None:
    """google-auth verifies what signJwt signed, and refuses it once a byte is changed."""
    now = int(time.time())
    claims = {"aud": "spanctl", "iat": now, "exp": now + 600, "nonce": "n" * 500}
    account = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:signJwt"
    body = {"payload": json.dumps(claims)}
    answer = standins.http("POST", account, body, standins.user_token())
    assert answer.status == 200
    published = standins.http(
        "GET", f"/service_accounts/v1/metadata/x509/{standins.email('runner')}"
    ).data
    signed, key_id = answer.data["signedJwt"], answer.data["keyId"]
    assert google.auth.jwt.decode_header(signed) == {"alg": "RS256", "kid": key_id, "typ": "JWT"}
    assert google.auth.jwt.decode(signed, certs=published, audience="spanctl") == claims
    head, payload, signature = signed.split(".")
    altered = base64.urlsafe_b64encode(json.dumps({**claims, "nonce": "m"}).encode()).decode()
    for forged in (
        f"{head}.{altered.rstrip('=')}.{signature}",
        f"{head}.{payload}.{signature[:-8]}",
    ):
        with pytest.raises(GoogleAuthError):
            google.auth.jwt.decode(forged, certs=published, audience="spanctl")
    keys = standins.http("GET", f"/service_accounts/v1/jwk/{standins.email('runner')}").data
    assert key_id in {key["kid"] for key in keys["keys"]}


@pytest.mark.parametrize("payload", ["", "[]", "not json", json.dumps({"exp": 99_999_999_999})])
def test_payloads_that_are_not_signed(standins: StandIns, payload: str) -> None:
    """Claims are a JSON object that ends within twelve hours."""
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}:signJwt"
    answer = standins.http("POST", path, {"payload": payload}, standins.user_token())
    assert answer.status == 400


def test_a_disabled_account_s_tokens_stop_at_once(standins: StandIns, secret: str) -> None:
    """Unlike a deleted key, a disabled account ends what was minted; enabled, it works again."""
    token, name = standins.user_token(), standins.email("reader")
    reader = standins.acting_as("reader")
    served = standins.secret_manager(reader)
    assert served.get_secret(name=secret)
    path = f"/v1/projects/-/serviceAccounts/{name}"
    try:
        assert standins.http("POST", f"{path}:disable", {}, token).status == 200
        with pytest.raises(exceptions.Unauthenticated):
            served.get_secret(name=secret, retry=None)
        with pytest.raises(RefreshError):
            standins.acting_as("reader").refresh(Request())
    finally:
        assert standins.http("POST", f"{path}:enable", {}, token).status == 200
    assert served.get_secret(name=secret)


# Keys


@pytest.mark.parametrize("self_signed", [True, False])
def test_a_key_works_until_it_is_disabled(
    standins: StandIns, secret: str, self_signed: bool
) -> None:
    """Google's client with a key gets in by a self-signed JWT, or by an exchanged assertion."""
    document, token = standins.new_key("runner"), standins.user_token()
    path = f"/v1/projects/-/serviceAccounts/{standins.email('runner')}/keys/"
    path += document["private_key_id"]

    def fresh() -> Any:
        keyed = Keyed.from_service_account_info(document, scopes=[SCOPE])
        if self_signed:
            return standins.secret_manager(keyed)
        keyed.refresh(Request())  # by itself it asks the token endpoint
        return standins.secret_manager(Credentials(keyed.token))

    before = fresh()
    assert before.get_secret(name=secret)
    assert standins.http("POST", f"{path}:disable", {}, token).status == 200
    with pytest.raises((RefreshError, exceptions.Unauthenticated)):
        fresh().get_secret(name=secret, retry=None)
    if not self_signed:  # a token that was exchanged before lives on
        assert before.get_secret(name=secret)
    assert standins.http("POST", f"{path}:enable", {}, token).status == 200
    assert fresh().get_secret(name=secret)
    assert standins.http("DELETE", path, None, token).status == 200
    with pytest.raises((RefreshError, exceptions.Unauthenticated)):
        fresh().get_secret(name=secret, retry=None)
    assert standins.http("GET", path, None, token).status == 404


def test_a_new_key_can_take_its_time(standins: StandIns, switch: Callable[..., None]) -> None:
    """Switched on, a key that was just made is refused; later it works."""
    keyed = Keyed.from_service_account_info(standins.new_key("runner"), scopes=[SCOPE])
    switch(keys=60)
    with pytest.raises(RefreshError, match="invalid_grant"):
        keyed.refresh(Request())
    switch()
    keyed.refresh(Request())
    assert keyed.token


def test_an_account_has_ten_keys_at_most(standins: StandIns) -> None:
    """The eleventh is refused; Google's own key doesn't count."""
    token = standins.acting_as("rotator")
    token.refresh(Request())
    path = f"/v1/projects/-/serviceAccounts/{standins.email('reader')}/keys"
    statuses = [standins.http("POST", path, {}, str(token.token)).status for _ in range(11)]
    assert statuses == [200] * 10 + [400]
    listed = standins.http("GET", f"{path}?keyTypes=USER_MANAGED", None, str(token.token))
    assert len(listed.data["keys"]) == 10
    assert "privateKeyData" not in listed.data["keys"][0]


def test_an_assertion_must_be_the_key_s_own(standins: StandIns) -> None:
    """Another account's name, another key, another audience and a stale time are refused."""
    good, other = standins.new_key("runner"), standins.new_key("runner")
    for document, change in (
        ({**good, "client_email": standins.email("rotator")}, {}),
        ({**good, "private_key": other["private_key"]}, {}),
        (good, {"aud": "https://example.com/token"}),
        (good, {"iat": 1_000_000_000, "exp": 1_000_003_600}),
        (good, {"exp": 9_999_999_999}),
        (good, {"scope": ""}),
    ):
        keyed = Keyed.from_service_account_info(document, scopes=[SCOPE])
        keyed = keyed.with_claims(change)
        with pytest.raises(RefreshError):
            keyed.refresh(Request())


# TLS and files


def test_plain_text_gets_nowhere(standins: StandIns) -> None:
    """Every port speaks TLS only, and a plain connection gets no answer."""
    for name, port in standins.ports.items():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = plain.recv(1024)
        assert b"HTTP/" not in got, name
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert refusal(channel, LIST) is grpc.StatusCode.UNAVAILABLE
    assert standins.answers()


def test_a_foreign_authority_is_not_trusted(standins: StandIns) -> None:
    """Who has only the system's roots refuses the server; so does Google's client."""
    context = ssl.create_default_context()
    with (
        socket.create_connection(("127.0.0.1", standins.ports["iam"]), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        context.wrap_socket(plain, server_hostname="127.0.0.1")
    target = f"127.0.0.1:{standins.ports['secretmanager']}"
    with grpc.secure_channel(target, grpc.ssl_channel_credentials()) as channel:
        assert refusal(channel, LIST) is grpc.StatusCode.UNAVAILABLE


def test_the_production_path_runs_unchanged(standins: StandIns) -> None:
    """Google's client with an endpoint, and the CA in the environment, is all it takes."""
    program = f"""
import json, sys
import google.oauth2.credentials
from google.cloud import secretmanager
known = json.load(open({str(standins.places.user)!r}))
names = ("refresh_token", "token_uri", "client_id", "client_secret")
user = google.oauth2.credentials.Credentials(None, **{{name: known[name] for name in names}})
options = {{"api_endpoint": "127.0.0.1:{standins.ports["secretmanager"]}"}}
client = secretmanager.SecretManagerServiceClient(credentials=user, client_options=options)
print(client.common_project_path("x"), len(list(client.list_secrets(parent={PARENT!r}))) >= 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=child_environment(environment(standins)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "projects/x True\n", done.stderr


def test_files_are_the_owner_s_alone(standins: StandIns) -> None:
    """Folder and files are closed to everybody else."""
    assert stat.S_IMODE(standins.folder.stat().st_mode) == 0o700
    for path in standins.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_no_token_is_kept_or_logged(standins: StandIns, secret: str) -> None:
    """No access token, refresh token or private key of a user's is in the database or the log."""
    acting = standins.acting_as("runner")
    standins.secret_manager(acting).get_secret(name=secret)
    standins.http("GET", f"/tokeninfo?access_token={acting.token}")
    known = json.loads(standins.places.user.read_text())
    key = standins.new_key("runner")["private_key"]
    material = [str(acting.token), known["refresh_token"], known["client_secret"], key[40:104]]
    kept = b"".join(
        path.read_bytes() for path in standins.folder.iterdir() if path != standins.places.user
    )
    said = standins.log.read_bytes()
    assert standins.email("runner").encode() in kept  # the search finds what is there
    assert standins.email("runner").encode() in said
    for text in material:
        bare = text.removeprefix("1//").removeprefix("ya29.c.").encode()
        assert bare not in kept
        assert bare not in said


def test_what_is_asked_for_begins_no_line_of_the_log(standins: StandIns) -> None:
    """Nor does it move the cursor of whoever reads the log."""
    for path in (
        "/x%0a2026-01-01%20ERROR%20forged",
        "/x%1b%5b31m%c2%9b%e2%80%ae",
        "/x%0d%85forged",
    ):
        assert standins.http("GET", path, token=standins.user_token()).status == 501
    said = standins.log.read_text(encoding="utf-8")
    assert "\\n2026-01-01 ERROR forged" in said, "the control"
    assert not UNSAFE.search(said.replace("\n", ""))
    forged = [line for line in said.splitlines() if "forged" in line]
    assert [re.match(r"\d{4}-\d\d-\d\d .* GET /x", line) is not None for line in forged] == [
        True
    ] * 2


def test_a_crowd_waits_for_its_turn(standins: StandIns) -> None:
    """Whoever comes while nothing is taken from the queue is not turned away."""
    port = standins.ports["iam"]
    os.kill(standins.process.pid, signal.SIGSTOP)
    try:
        with contextlib.ExitStack() as crowd:
            for _ in range(100):
                crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
    finally:
        os.kill(standins.process.pid, signal.SIGCONT)


# Crashes


def test_what_was_answered_survives_a_kill(standins: StandIns, client: Any, secret: str) -> None:
    """After SIGKILL in the middle of writes, everything acknowledged is there, tokens included."""
    update(client, ["annotations"], name=secret, annotations={"journal": "step 1"})
    runner = standins.acting_as("runner")
    runner.refresh(Request())
    done: list[str] = []

    def write() -> None:
        while True:
            payload = {"data": f"payload {len(done)}".encode()}
            try:
                added = client.add_secret_version(
                    parent=secret, payload=payload, retry=None, timeout=5
                )
            except exceptions.GoogleAPICallError:
                return
            done.append(added.name)

    writer = threading.Thread(target=write)
    writer.start()
    while len(done) < 20:
        threading.Event().wait(0.01)
    standins.kill()
    writer.join(30)
    standins.start()
    # Channels of their own: the writer's still pauses before it connects again.
    reader = standins.secret_manager(Credentials(str(runner.token)))
    owner = standins.secret_manager(standins.user())
    for number, name in enumerate(done):
        assert reader.access_secret_version(name=name).payload.data == f"payload {number}".encode()
    assert len(list(owner.list_secret_versions(parent=secret))) - len(done) in {0, 1}
    assert dict(owner.get_secret(name=secret).annotations) == {"journal": "step 1"}


def test_a_taken_port_is_refused(standins: StandIns) -> None:
    """A second process on the same ports ends with one line, and the first serves on."""
    done = subprocess.run(
        standins.command(), env=child_environment(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"taken" in done.stderr or b"in use" in done.stderr, done.stderr
    assert b"Traceback" not in done.stderr
    assert standins.answers()


def test_a_damaged_database_is_told(standins: StandIns, tmp_path: Path) -> None:
    """A file that is none ends the start with one line and the way out; it is not replaced."""
    broken = StandIns(tmp_path / "broken")
    broken.use_authority_of(standins.places)
    broken.places.database.write_bytes(b"no database " * 1000)
    done = subprocess.run(
        broken.command(), env=child_environment(), capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert b"spanctl local reset" in done.stderr
    assert b"Traceback" not in done.stderr
    assert broken.places.database.read_bytes().startswith(b"no database")


def test_a_request_of_unknown_length_ends_the_connection(standins: StandIns) -> None:
    """A chunked body is refused whole: no part of it is taken for a further request."""
    context = ssl.create_default_context(cafile=str(standins.places.bundle))
    hidden = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    with (
        socket.create_connection(("127.0.0.1", standins.ports["iam"]), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as stream,
    ):
        head = b"POST /token HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        stream.sendall(head + b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n")
        told = b""
        while part := stream.recv(4096):
            told += part
    assert told.startswith(b"HTTP/1.1 411 ")
    assert told.count(b"HTTP/1.1") == 1


def test_other_projects_are_closed(standins: StandIns) -> None:
    """The stand-ins know one project, and nobody has a permission in another."""
    answer = standins.http(
        "GET", "/v1/projects/elsewhere/serviceAccounts", None, standins.user_token()
    )
    assert answer.status == 403
    own = standins.http("GET", f"/v1/{PARENT}/serviceAccounts", None, standins.user_token())
    assert {account["email"] for account in own.data["accounts"]} >= {
        standins.email(name) for name in EVERYONE
    }
    assert PROJECT in own.data["accounts"][0]["name"]
