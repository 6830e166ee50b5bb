"""Where the rotation campaigns happen: stand-ins with switches, a gateway, one secret a case."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

import grpc
from google.cloud.spanner_v1.services.spanner import SpannerClient
from google.cloud.spanner_v1.services.spanner.transports import SpannerGrpcTransport

from spanctl.clock import now
from spanctl.credentials.endpoints import Endpoints
from spanctl.credentials.http import Http
from spanctl.credentials.reference import SecretName, SecretReference
from spanctl.credentials.resolve import resolve
from spanctl.credentials.rotation.actions import Policy
from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.minters import KeyMinter, TokenMinter
from spanctl.credentials.secretsource import SecretSource
from spanctl.credentials.store import GoogleSecretStore
from spanctl.local.standins.switches import Switches
from spanctl.resources import DatabaseName
from spanctl.spanner.admission import Door, SpannerTester
from tests.faults import raw
from tests.faults.emulator import INSTANCE, PROJECT
from tests.local.identity import PARENT, StandIns
from tests.local.identity import PROJECT as OWNER

HASTY: Final = Policy(
    drain=timedelta(seconds=0.5),
    destroy_after=timedelta(seconds=0.2),
    sweep=timedelta(seconds=1),
)
"""A rotation with all of its steps, old versions destroyed, in two seconds."""

AUTOMATIC: Final = {"replication": {"automatic": {}}}
_ADC: Final = "GOOGLE_APPLICATION_CREDENTIALS"
_PAUSE: Final = 0.01
KINDS: Final = ("token", "key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """All that a child needs to find the vault, as JSON can hold it."""

    endpoints: dict[str, Any]
    gateway: str
    database: str
    account: str

    def rotator(self, name: SecretName, kind: str, store: GoogleSecretStore) -> Rotator:
        """Return who rotates a secret, its mint and its test as the command line makes them."""
        where = Endpoints(**self.endpoints)
        user = resolve("adc", where)
        door = Door(
            database=DatabaseName(PROJECT, INSTANCE, self.database),
            endpoint=self.gateway,
            ca_file=where.ca_file,
        )
        minter = TokenMinter if kind == "token" else KeyMinter
        return Rotator(
            store=store,
            name=name,
            minter=minter(where, user, self.account),
            tester=SpannerTester(door, where),
            settle=timedelta(seconds=5) if kind == "key" else timedelta(0),
            policy=HASTY,
        )

    def told(self) -> dict[str, Any]:
        """Return it as a child is told it."""
        return asdict(self)


class Vault:
    """One lane's stand-ins, in front of an emulator, and a client of each."""

    def __init__(self, standins: StandIns, database: str) -> None:
        """Take what runs; use :func:`vault`."""
        self.standins = standins
        self.endpoints = Endpoints(
            secretmanager=f"127.0.0.1:{standins.ports['secretmanager']}",
            iam=standins.base,
            admin=standins.base,
            oauth2=standins.base,
            ca_file=str(standins.places.bundle),
        )
        self.account = standins.email("runner")
        self.address = Address(
            endpoints=asdict(self.endpoints),
            gateway=f"127.0.0.1:{standins.ports['gateway']}",
            database=database,
            account=self.account,
        )
        self.user = resolve("adc", self.endpoints)
        self.store = GoogleSecretStore(self.endpoints, self.user)
        self._manager = standins.secret_manager(self.user)
        roots = standins.roots()
        self.channel = grpc.secure_channel(self.address.gateway, roots)
        self._spanner = SpannerClient(transport=SpannerGrpcTransport(channel=self.channel))

    def close(self) -> None:
        """Close its channels."""
        self.store.close()
        self._manager.transport.close()
        self.channel.close()

    def new_secret(self, wanted: str) -> SecretName:
        """Make an empty secret."""
        self._manager.create_secret(parent=PARENT, secret_id=wanted, secret=AUTOMATIC)
        return SecretName(OWNER, wanted)

    def rotator(self, name: SecretName, kind: str) -> Rotator:
        """Return a rotator in this process."""
        return self.address.rotator(name, kind, self.store)

    def switch(self, **given: Any) -> None:
        """Throw switches; without any, all are back."""
        Switches(**given).save(self.standins.places.switches)

    def try_out(self, name: SecretName) -> int | None:
        """Resolve a secret anew and get in with what it gives; returns the version.

        Raises:
            SpanctlError: It could not be resolved.
            GoogleAPICallError: The gateway did not let it in.
        """
        source = SecretSource(self.store, SecretReference(name), self.endpoints)
        token = source.fetch(Http(self.endpoints), None)
        self._spanner.list_sessions(
            {
                "database": f"projects/{PROJECT}/instances/{INSTANCE}/databases/"
                f"{self.address.database}",
                "page_size": 1,
            },
            retry=None,
            timeout=20,
            metadata=[("authorization", f"Bearer {token.token.reveal_text()}")],
        )
        return token.version

    def end_keys(self) -> int:
        """Delete every key of the account, which may have ten; returns how many there were."""
        token = self.standins.user_token()
        path = f"/v1/projects/-/serviceAccounts/{self.account}/keys"
        listed = self.standins.http("GET", path, token=token).data.get("keys", [])
        mine = [one["name"] for one in listed if one.get("keyType") != "SYSTEM_MANAGED"]
        for one in mine:
            self.standins.http("DELETE", f"/v1/{one}", token=token)
        return len(mine)


@contextlib.contextmanager
def vault(emulator: str, folder: Path) -> Iterator[Vault]:
    """Start stand-ins in front of an emulator; the local user is logged in meanwhile."""
    database = raw.create_database(emulator, ["CREATE TABLE t (k INT64) PRIMARY KEY (k)"])
    standins = StandIns(folder / "identity", spanner=emulator).start()
    made = None
    try:
        made = Vault(standins, database)
        yield made
    finally:
        if made is not None:
            made.close()
        standins.stop()
        raw.drop_database(emulator, database)


def log_in(standins: StandIns) -> Mapping[str, str]:
    """Return the environment in which application default credentials are the local user's."""
    return {_ADC: str(standins.places.user)}


def until(seconds: float) -> Any:
    """Return the time by which something should be over."""
    return now() + timedelta(seconds=seconds)


class Reader:
    """A thread that resolves a secret and gets in with it, over and over."""

    def __init__(self, vault: Vault, name: SecretName) -> None:
        """Say what is read; the block starts and stops it."""
        self._vault = vault
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader")
        self.reads = 0
        self.failures: list[str] = []
        self.versions: set[int | None] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        while not self._stop.is_set():
            self.reads += 1
            try:
                self.versions.add(self._vault.try_out(self._name))
            except Exception as error:  # noqa: BLE001 - whatever it is, a flow would have failed
                self.failures.append(f"{type(error).__name__}: {error}")
            time.sleep(_PAUSE)


class Meddler:
    """A thread that changes the secret's annotations, so that etags go stale all the time."""

    def __init__(self, vault: Vault, name: SecretName, pause: float) -> None:
        """Say what is changed and how often; the block starts and stops it."""
        self._vault = vault
        self._name = name
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._change, name="meddler")
        self.changes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _change(self) -> None:
        from spanctl.errors import SpanctlError

        while not self._stop.is_set():
            with contextlib.suppress(SpanctlError):  # it loses races, too, and replies
                state = self._vault.store.get(self._name)
                annotations = {**state.annotations, "meddled": json.dumps(self.changes)}
                self._vault.store.update(
                    self._name, aliases=state.aliases, annotations=annotations, etag=state.etag
                )
                self.changes += 1
            time.sleep(self._pause)
