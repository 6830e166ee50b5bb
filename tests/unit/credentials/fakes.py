"""Fakes for tests only: a Secret Manager in memory, a mint, a tester and a clock."""

import base64
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from spanctl.credentials.document import (
    CredentialDocument,
    access_token_document,
    parse_document,
)
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.driver import Rotator
from spanctl.credentials.rotation.ports import (
    EtagConflictError,
    Payload,
    SecretState,
    VersionInfo,
    VersionState,
    VersionStateError,
)
from spanctl.credentials.secret import Secret
from spanctl.errors import (
    NotFoundError,
    NotPermittedError,
    UnreachableError,
    VerificationError,
)

NAME = SecretName("p1", "db")
T = TypeVar("T")
RUNNER = "runner@p1.iam.gserviceaccount.com"


class Killed(BaseException):
    """The process was killed here."""


class Clock:
    """A clock that moves when it is told to, or when somebody waits."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    def forward(self, **span: float) -> None:
        self.time += timedelta(**span)


class Trouble:
    """Kills, loses or lets pass each call to the outside, and counts them.

    ``at`` is the number of the call at which ``kind`` happens: ``before`` and ``after`` kill the
    process before or after its effect; ``drop`` and ``lose`` answer nothing, without or with it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.at = -1
        self.kind = ""
        self.dead = False
        self.names: list[str] = []
        self.watch: Callable[[], None] = lambda: None

    def run(self, name: str, effect: Callable[[], T]) -> T:
        if self.dead:
            raise Killed
        self.calls += 1
        self.names.append(name)
        hit = self.calls == self.at
        if hit and self.kind == "before":
            self.dead = True
            raise Killed
        if hit and self.kind == "drop":
            raise UnreachableError(name)
        try:
            result = effect()
            self.watch()
        finally:
            if hit and self.kind == "after":
                self.dead = True
                raise Killed
        if hit and self.kind == "lose":
            raise UnreachableError(name)
        return result


class FakeSecretStore:
    """Secret Manager in memory: etags, states, and the ways in which the real one is late."""

    def __init__(self, trouble: Trouble, clock: Clock) -> None:
        self.trouble = trouble
        self.clock = clock
        self.state = SecretState(etag="e0")
        self.payloads: list[bytes] = []
        self.states: list[VersionState] = []
        self.served: dict[str, int] = {}
        self.corrupt = 0
        self.unlisted = 0
        self._etags = itertools.count(1)

    def seed(self, document: CredentialDocument) -> int:
        """Add a first version and make it current."""
        self.payloads.append(document.material.reveal())
        self.states.append(VersionState.ENABLED)
        self.state = replace(self.state, aliases={"current": len(self.payloads)})
        return len(self.payloads)

    def get(self, name: SecretName) -> SecretState:
        assert name == NAME
        return self.trouble.run("get", lambda: self.state)

    def update(
        self,
        name: SecretName,
        *,
        aliases: Mapping[str, int],
        annotations: Mapping[str, str],
        etag: str,
    ) -> SecretState:
        def effect() -> SecretState:
            if etag != self.state.etag:
                raise EtagConflictError(str(name))
            assert all(1 <= number <= len(self.payloads) for number in aliases.values())
            assert sum(len(k) + len(v) for k, v in annotations.items()) < 16_384
            self.state = SecretState(dict(aliases), dict(annotations), f"e{next(self._etags)}")
            return self.state

        return self.trouble.run("update", effect)

    def add(self, name: SecretName, material: Secret) -> int:
        assert name == NAME

        def effect() -> int:
            self.payloads.append(material.reveal())
            self.states.append(VersionState.ENABLED)
            return len(self.payloads)

        return self.trouble.run("add", effect)

    def access(self, name: SecretName, version: int | str) -> Payload:
        def effect() -> Payload:
            known = self.served if version in self.served else self.state.aliases
            number = known.get(version) if isinstance(version, str) else version
            if number is None or not 1 <= number <= len(self.payloads):
                raise NotFoundError(str(name))
            if self.states[number - 1] is not VersionState.ENABLED:
                raise VersionStateError(str(name))
            if self.corrupt:
                self.corrupt -= 1
                raise VerificationError(str(name))
            return Payload(number, Secret(self.payloads[number - 1]))

        return self.trouble.run("access", effect)

    def versions(self, name: SecretName) -> tuple[VersionInfo, ...]:
        assert name == NAME

        def effect() -> tuple[VersionInfo, ...]:
            listed = enumerate(self.states[: len(self.states) - self.unlisted], 1)
            told = [VersionInfo(number, state, self.clock()) for number, state in listed]
            return tuple(reversed(told))

        return self.trouble.run("versions", effect)

    def disable(self, name: SecretName, number: int) -> None:
        self._turn(name, "disable", number, VersionState.DISABLED)

    def destroy(self, name: SecretName, number: int) -> None:
        self._turn(name, "destroy", number, VersionState.DESTROYED)

    def _turn(self, name: SecretName, what: str, number: int, to: VersionState) -> None:
        assert name == NAME

        def effect() -> None:
            if self.states[number - 1] is not VersionState.DESTROYED:
                self.states[number - 1] = to

        self.trouble.run(what, effect)


class FakeTokenMinter:
    """Mints access tokens of one hour, each another one."""

    def __init__(self, trouble: Trouble, clock: Clock) -> None:
        self.trouble = trouble
        self.clock = clock
        self.minted = 0

    def make(self) -> CredentialDocument:
        self.minted += 1
        return access_token_document(
            Secret(f"ya29.fake-token-number-{self.minted:04d}"),
            principal=RUNNER,
            expiry=self.clock() + timedelta(hours=1),
        )

    def mint(self) -> CredentialDocument:
        return self.trouble.run("mint", self.make)

    def key_of(self, document: CredentialDocument) -> str:
        return document.key_id or ""

    def disable_key(self, key: str) -> None:
        raise AssertionError(key)

    def delete_key(self, key: str) -> None:
        raise AssertionError(key)


class FakeKeyMinter(FakeTokenMinter):
    """Makes service-account keys, and knows which of them are alive."""

    def __init__(self, trouble: Trouble, clock: Clock) -> None:
        super().__init__(trouble, clock)
        self.keys: dict[str, str] = {}

    def make(self) -> CredentialDocument:
        self.minted += 1
        key = f"key{self.minted}"
        self.keys[key] = "alive"
        body = base64.b64encode(key.encode() * 20).decode()
        info = {
            "type": "service_account",
            "client_email": RUNNER,
            "private_key_id": key,
            "private_key": f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n",
            "token_uri": "https://oauth2.googleapis.com/token",
        }
        return parse_document(Secret(json.dumps(info)))

    def disable_key(self, key: str) -> None:
        self.trouble.run("disable_key", lambda: self.keys.update({key: "disabled"}))

    def delete_key(self, key: str) -> None:
        self.trouble.run("delete_key", lambda: self.keys.update({key: "deleted"}))


class FakeTester:
    """Lets every credential in but those that it was told not to, and keys that are not alive."""

    def __init__(self, trouble: Trouble, minter: FakeTokenMinter) -> None:
        self.trouble = trouble
        self.minter = minter
        self.refused = 0
        self.tested = 0

    def good(self, document: CredentialDocument) -> bool:
        if isinstance(self.minter, FakeKeyMinter):
            return self.minter.keys.get(document.key_id or "") == "alive"
        return document.expiry is None or self.minter.clock() < document.expiry

    def test(self, document: CredentialDocument) -> None:
        def effect() -> None:
            self.tested += 1
            if self.refused:
                self.refused -= 1
                raise NotPermittedError(RUNNER)
            if not self.good(document):
                raise NotPermittedError(RUNNER)

        self.trouble.run("test", effect)


class Stage:
    """Everything that a rotation needs, with version 1 current; what it must never break."""

    def __init__(self, kind: type[FakeTokenMinter] = FakeTokenMinter) -> None:
        self.trouble = Trouble()
        self.clock = Clock()
        self.store = FakeSecretStore(self.trouble, self.clock)
        self.minter = kind(self.trouble, self.clock)
        self.tester = FakeTester(self.trouble, self.minter)
        self.store.seed(self.minter.make())
        self.trouble.watch = self.check

    def rotator(self, who: str = "ada") -> Rotator:
        return Rotator(
            store=self.store,
            name=NAME,
            minter=self.minter,
            tester=self.tester,
            who=who,
            clock=self.clock,
            pause=self.clock.pause,
        )

    def works(self, version: int) -> bool:
        if self.store.states[version - 1] is not VersionState.ENABLED:
            return False
        return self.tester.good(parse_document(Secret(self.store.payloads[version - 1])))

    def check(self) -> None:
        """Assert that the current version works, whatever has just been done."""
        assert self.works(self.store.state.aliases["current"])

    def revive(self) -> None:
        """Let the next process live, and the dead one's claim lapse."""
        self.trouble.dead = False
        self.trouble.at = -1
        self.trouble.calls = 0
        self.clock.forward(minutes=3)
