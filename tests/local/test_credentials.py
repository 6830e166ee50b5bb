"""Credentials end to end: Google's clients, TLS and the stand-ins, through our own code."""

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import pytest

from spanctl.clock import now
from spanctl.credentials.document import CredentialDocument
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.identity import Standing, identify, token_info
from spanctl.credentials.live import LiveCredentials
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import read_secret, resolve, resolve_store
from spanctl.credentials.rotation.actions import Ending, Policy
from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.minters import KeyMinter, TokenMinter
from spanctl.credentials.rotation.ports import EtagConflictError, Minter, VersionState
from spanctl.credentials.secret import Secret
from spanctl.credentials.sources import document_source
from spanctl.credentials.store import GoogleSecretStore
from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    UnreachableError,
    UsageError,
    VerificationError,
)
from spanctl.local.standins.switches import Switches
from tests.fixtures.cli import child_environment
from tests.local.identity import PARENT, PROJECT, StandIns

AUTOMATIC = {"replication": {"automatic": {}}}


@pytest.fixture(scope="module")
def standins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    served = StandIns(tmp_path_factory.mktemp("credentials") / "identity").start()
    yield served
    assert served.stop() == 0


@pytest.fixture
def endpoints(standins: StandIns, monkeypatch: pytest.MonkeyPatch) -> Endpoints:
    """The stand-ins' endpoints; the local user is logged in."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(standins.places.user))
    return Endpoints(
        secretmanager=f"127.0.0.1:{standins.ports['secretmanager']}",
        iam=standins.base,
        admin=standins.base,
        oauth2=standins.base,
        ca_file=str(standins.places.bundle),
    )


@pytest.fixture
def switch(standins: StandIns) -> Iterator[Callable[..., None]]:
    """A function that throws switches; they are back after the test."""
    yield lambda **given: Switches(**given).save(standins.places.switches)
    standins.places.switches.unlink(missing_ok=True)


@pytest.fixture
def store(endpoints: Endpoints) -> Iterator[GoogleSecretStore]:
    made = resolve_store("adc", endpoints)
    yield made
    made.close()


@pytest.fixture
def name(standins: StandIns, endpoints: Endpoints, request: pytest.FixtureRequest) -> SecretName:
    """A new, empty secret."""
    wanted = re.sub(r"[^a-z0-9]+", "-", request.node.name)[:200]
    client = standins.secret_manager(resolve("adc", endpoints))
    client.create_secret(parent=PARENT, secret_id=wanted, secret=AUTOMATIC)
    client.transport.close()
    return SecretName(PROJECT, wanted)


@dataclass
class TokeninfoTester:
    """Lets a credential in if its issuer says that a token made from it is live."""

    endpoints: Endpoints

    def test(self, document: CredentialDocument) -> None:
        http = Http(self.endpoints)
        token = document_source(document, self.endpoints).fetch(http, None)
        token_info(http, self.endpoints, token.token)


@pytest.fixture
def rotator(
    store: GoogleSecretStore, name: SecretName, endpoints: Endpoints, standins: StandIns
) -> Callable[..., Rotator]:
    """A function that makes a rotator of the runner's credential."""
    user = resolve("adc", endpoints)

    def make(minter: Minter | None = None, **policy: timedelta) -> Rotator:
        token = TokenMinter(endpoints, user, standins.email("runner"))
        return Rotator(
            store=store,
            name=name,
            minter=minter or token,
            tester=TokeninfoTester(endpoints),
            policy=Policy(**policy),  # type: ignore[arg-type]
        )

    return make


def test_a_flow_follows_rotations(
    rotator: Callable[..., Rotator], name: SecretName, endpoints: Endpoints
) -> None:
    """Credentials of a secret take up the new version when the old token is refused."""
    assert rotator().rotate().version == 1
    live = resolve(f"secret:{name}", endpoints)
    first = live.ensure()
    assert rotator().rotate().version == 2
    assert live.ensure() == first
    live.renew(first)
    assert live.ensure() != first
    assert live.live is not None
    assert live.live.version == 2


def test_a_lost_answer_to_a_new_version_leaves_no_duplicate(
    rotator: Callable[..., Rotator],
    store: GoogleSecretStore,
    name: SecretName,
    switch: Callable[..., None],
) -> None:
    """The version is found by its checksum at the real client too, and promoted."""
    rotator().rotate()
    switch(lose=("AddSecretVersion",))
    assert rotator().rotate().version == 2
    assert [version.number for version in store.versions(name)] == [2, 1]


def test_rotations_under_load_are_never_noticed(
    rotator: Callable[..., Rotator],
    name: SecretName,
    endpoints: Endpoints,
    standins: StandIns,
) -> None:
    """While a secret is rotated again and again, whoever resolves it always gets in."""
    rotator().rotate()
    stop = threading.Event()
    failures: list[BaseException] = []
    resolved: set[int | None] = set()

    def flow() -> None:
        http = Http(endpoints)
        try:
            while not stop.is_set():
                live = resolve(f"secret:{name}", endpoints)
                info = token_info(http, endpoints, live.ensure())
                assert info.email == standins.email("runner")
                resolved.add(live.live.version if live.live else None)
        except BaseException as error:  # noqa: BLE001 - told to the test
            failures.append(error)

    flows = [threading.Thread(target=flow) for _ in range(2)]
    for one in flows:
        one.start()
    for _ in range(10):
        rotator(drain=timedelta(seconds=30)).rotate()
    stop.set()
    for one in flows:
        one.join()
    assert not failures, failures
    assert len(resolved) > 1


def test_a_lagging_alias_is_overtaken_when_its_token_is_refused(
    rotator: Callable[..., Rotator],
    name: SecretName,
    endpoints: Endpoints,
    switch: Callable[..., None],
) -> None:
    """If the alias still serves a version whose token is refused, the secret itself is asked."""
    rotator().rotate()
    live = resolve(f"secret:{name}", endpoints)
    first = live.ensure()
    switch(aliases=3600.0)
    rotator().rotate()
    live.renew(first)
    assert live.live is not None
    assert live.live.version == 2


def test_a_damaged_payload_is_never_used(
    rotator: Callable[..., Rotator],
    name: SecretName,
    endpoints: Endpoints,
    switch: Callable[..., None],
) -> None:
    """What doesn't fit its checksum is refused by resolving, and fails its test in a rotation."""
    rotator().rotate()
    switch(corrupt=True)
    with pytest.raises(VerificationError):
        resolve(f"secret:{name}", endpoints).ensure()
    assert rotator().rotate().ending is Ending.FAILED
    switch(corrupt=False)
    live = resolve(f"secret:{name}", endpoints)
    live.ensure()
    assert live.live is not None
    assert live.live.version == 1


def test_keys_are_made_tried_and_ended(
    rotator: Callable[..., Rotator],
    store: GoogleSecretStore,
    name: SecretName,
    endpoints: Endpoints,
    standins: StandIns,
) -> None:
    """A rotated key's old key is disabled with its version, and lets nobody in any more."""
    minter = KeyMinter(endpoints, resolve("adc", endpoints), standins.email("runner"))
    rotator(minter).rotate()
    old = resolve(f"secret:{name}@1", endpoints)
    old.ensure()
    end = now() + timedelta(seconds=60)
    done = rotator(minter, drain=timedelta(0), destroy_after=timedelta(0)).rotate(wait_until=end)
    assert done.ending is Ending.PROMOTED
    assert done.until is None
    states = {one.number: one.state for one in store.versions(name)}
    assert states == {1: VersionState.DESTROYED, 2: VersionState.ENABLED}
    kept = old.live
    assert kept is not None
    with pytest.raises(Exception, match="disabled or destroyed"):
        resolve(f"secret:{name}@1", endpoints).ensure()
    assert resolve(f"secret:{name}", endpoints).ensure() != kept.token


def test_an_impersonation_is_proven_with_its_chain(
    endpoints: Endpoints, standins: StandIns
) -> None:
    """The issuer tells principal and base; what a document says alone stays claimed."""
    live = resolve(f"impersonate:{standins.email('runner')}", endpoints)
    live.ensure()
    assert live.live is not None
    who = identify(Http(endpoints), endpoints, live.live)
    assert who.name == standins.email("runner")
    assert who.standing is Standing.PROVEN
    assert len(who.chain) == 1
    assert who.chain[0].endswith("@localhost")
    assert who.chain_standing is Standing.PROVEN


def test_a_document_can_not_prove_who_minted_it(
    rotator: Callable[..., Rotator], name: SecretName, endpoints: Endpoints, standins: StandIns
) -> None:
    """A token from a secret has a proven principal and a claimed chain."""
    rotator().rotate()
    live = resolve(f"secret:{name}", endpoints)
    live.ensure()
    assert live.live is not None
    who = identify(Http(endpoints), endpoints, live.live)
    assert (who.name, who.standing) == (standins.email("runner"), Standing.PROVEN)
    assert who.chain_standing is Standing.CLAIMED


def test_a_write_on_top_of_another_ones_is_refused(
    store: GoogleSecretStore, name: SecretName
) -> None:
    """A stale etag writes nothing; no etag is never sent."""
    before = store.get(name)
    write = partial(store.update, name, aliases={})
    write(annotations={"a": "1"}, etag=before.etag)
    with pytest.raises(EtagConflictError):
        write(annotations={"a": "2"}, etag=before.etag)
    with pytest.raises(VerificationError):
        write(annotations={"a": "3"}, etag="")
    assert store.get(name).annotations == {"a": "1"}


def test_who_may_not_is_told_so(name: SecretName, endpoints: Endpoints, standins: StandIns) -> None:
    """A reader can't write a secret, and nobody finds what isn't there."""
    reader = resolve_store(f"impersonate:{standins.email('reader')}", endpoints)
    state = reader.get(name)
    with pytest.raises(NotPermittedError):
        reader.update(name, aliases={}, annotations={}, etag=state.etag)
    with pytest.raises(NotPermittedError):
        reader.add(name, Secret(b"x" * 20))
    reader.close()
    with pytest.raises(NotFoundError):
        resolve(f"secret:{PARENT}/secrets/no-such-secret", endpoints).ensure()


def test_a_refused_token_is_renewed_once_by_the_store(
    store: GoogleSecretStore, name: SecretName
) -> None:
    """UNAUTHENTICATED costs one renewal and one more send, and no error."""
    store.get(name)
    live = store._credentials  # noqa: SLF001 - to spoil the token that it would send
    assert isinstance(live, LiveCredentials)
    good = live.ensure()
    live.token = "ya29.not-a-token-of-anybody"  # noqa: S105 - what a server refuses
    assert store.get(name).etag
    assert live.ensure() != good


def test_without_a_log_in_the_error_says_what_to_do(
    endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No application default credentials: not permitted, and the command that helps."""
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(NotPermittedError) as caught:
        resolve("adc", endpoints).ensure()
    assert "application-default login" in caught.value.hint


def test_a_chain_takes_what_works(endpoints: Endpoints, standins: StandIns) -> None:
    """What doesn't resolve is passed over; if nothing does, each reason is told."""
    missing = f"secret:{PARENT}/secrets/missing"
    live = resolve(f"chain:{missing},impersonate:{standins.email('reader')}", endpoints)
    live.ensure()
    assert live.live is not None
    assert live.live.principal == standins.email("reader")
    other = f"impersonate:nobody@{PROJECT}.iam.gserviceaccount.com"
    broken = resolve(f"chain:{missing},{other}", endpoints)
    with pytest.raises(NotPermittedError, match=r"missing.*nobody"):
        broken.ensure()


def test_secrets_are_not_read_with_a_secret(endpoints: Endpoints, name: SecretName) -> None:
    """What is in a secret can't be what opens it."""
    from spanctl.credentials.reference import SecretReference

    with pytest.raises(UsageError):
        resolve(f"secret:{name}", endpoints, reader=SecretReference(name))


def test_a_server_that_does_not_answer_is_unreachable(
    endpoints: Endpoints, name: SecretName
) -> None:
    """A dead port is no missing permission: the difference is what scripts act on."""
    from dataclasses import replace

    from spanctl.local import ports

    dead = replace(endpoints, secretmanager=f"127.0.0.1:{ports.choose(taken=frozenset())}")
    store = resolve_store("adc", dead)
    with pytest.raises(UnreachableError):
        store.get(name)
    store.close()


def test_any_secret_can_be_read_by_its_reference(
    store: GoogleSecretStore, name: SecretName, endpoints: Endpoints
) -> None:
    """Prefect's API key, say: the payload as it is, and the version that was named."""
    from spanctl.credentials.reference import SecretReference

    store.add(name, Secret("prefect-api-key-1"))
    store.add(name, Secret("prefect-api-key-2"))
    assert read_secret(SecretReference(name, "1"), endpoints) == Secret("prefect-api-key-1")
    with pytest.raises(NotFoundError):
        read_secret(SecretReference(name), endpoints)


KILLED = """
import os, random, signal, sys, threading
from datetime import timedelta
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.reference import SecretName
from spanctl.credentials.resolve import resolve, resolve_store
from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.minters import TokenMinter
iam, manager, bundle, name, target, step = sys.argv[1:]
where = Endpoints(secretmanager=manager, iam=iam, admin=iam, oauth2=iam, ca_file=bundle)
class Tester:
    def test(self, document):
        pass
count = 0
def dying(original):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count == int(step):
            threading.Timer(random.random() * 0.01, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return original(*args, **kwargs)
    return wrapped
store = resolve_store("adc", where)
for method in ("get", "update", "add", "access", "versions"):
    setattr(store, method, dying(getattr(store, method)))
minter = TokenMinter(where, resolve("adc", where), target)
Rotator(store=store, name=SecretName.parse(name), minter=minter, tester=Tester()).rotate()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_is_taken_over_at_once(
    rotator: Callable[..., Rotator],
    store: GoogleSecretStore,
    name: SecretName,
    endpoints: Endpoints,
    standins: StandIns,
) -> None:
    """SIGKILL around each request: the next rotator needs not wait, and current always works."""
    rotator().rotate()
    user = str(standins.places.user)
    for step in range(1, 11):
        told = (endpoints.iam, endpoints.secretmanager, str(endpoints.ca_file), str(name))
        done = subprocess.run(
            [sys.executable, "-c", KILLED, *told, standins.email("runner"), str(step)],
            env={**child_environment(), "GOOGLE_APPLICATION_CREDENTIALS": user},
            capture_output=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        resolve(f"secret:{name}", endpoints).ensure()
        rotator().resume()
        state = store.get(name)
        assert "pending" not in state.aliases
        resolve(f"secret:{name}", endpoints).ensure()
    rotator(drain=timedelta(0)).abort()
    resolve(f"secret:{name}", endpoints).ensure()
