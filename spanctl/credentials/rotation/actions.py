"""What a rotator sees, what it remembers, and what it can do next: plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from spanctl.credentials.rotation.journal import CURRENT, PREVIOUS, Journal, Pin, Rotation


class Intent(StrEnum):
    """What a rotator was asked to do."""

    ROTATE = "rotate"
    RESUME = "resume"
    ABORT = "abort"
    TIDY = "tidy"


class Ending(StrEnum):
    """How a rotator's work ended."""

    PROMOTED = "promoted"
    ABORTED = "aborted"
    FAILED = "failed"
    NOTHING = "nothing"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient a rotation is.

    Attributes:
        lease: For how long a rotator's claim holds after its last write.
        drain: For how long an old version stays enabled after the promotion: at least the life of
            tokens in it, and the time in which every reader takes up the new one.
        destroy_after: How long a disabled version can still be brought back.
        sweep: For how long a payload whose answer was lost may still arrive.
        sends: How often a payload is sent before the rotator gives up.
    """

    lease: timedelta = timedelta(minutes=2)
    drain: timedelta = timedelta(hours=1)
    destroy_after: timedelta = timedelta(days=1)
    sweep: timedelta = timedelta(minutes=15)
    sends: int = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A secret as it was read once; what is written on top of it is compared with it.

    Attributes:
        journal: Its journal.
        aliases: Alias and version's number, sorted.
        pins: Its pins.
    """

    journal: Journal
    aliases: tuple[tuple[str, int], ...] = ()
    pins: tuple[Pin, ...] = ()

    def alias(self, name: str) -> int | None:
        """Return the version that an alias names, None when there is no such alias."""
        return dict(self.aliases).get(name)

    def with_aliases(self, changes: Mapping[str, int | None]) -> tuple[tuple[str, int], ...]:
        """Return the aliases after some are moved, and those that are None removed."""
        moved = {**dict(self.aliases), **changes}
        return tuple(sorted((name, to) for name, to in moved.items() if to is not None))

    @property
    def promoted(self) -> tuple[int | None, int | None]:
        """The current and the previous version."""
        return self.alias(CURRENT), self.alias(PREVIOUS)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a rotator learned of the current version before it begins.

    Attributes:
        current: Its number, None when there is none.
        highest: The highest version's number, 0 when there is none.
        key: The service-account key in the current version.
        expiry: When the token in the current version expires.
    """

    current: int | None
    highest: int
    key: str = ""
    expiry: datetime | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A version that a look for lost payloads found."""

    version: int
    checksum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What a rotator's process knows, and forgets when it is killed.

    Attributes:
        owner: Id of this process.
        who: This process, for people.
        intent: What it was asked to do.
        inspected: What it learned of the current version.
        claimed: Whether a rotation was ever its own.
        minted: CRC32C of the payload that it holds.
        key: The service-account key in that payload.
        sends: How often it sent that payload.
        added: The version that the server said it became.
        located: The last look for lost versions, and what it found.
        tested: Versions that it saw working.
        broken: Versions that it saw failing.
        swept: Sweeps that it made: checksum, whether after the end, and what was found.
        disabled: Version and key of what it disabled.
        destroyed: Version and key of what it destroyed.
        ending: How its work ended, None while it goes on.
        made: The version that it promoted.
        gone: Ids of owners that are known to be dead.
        aim: Id of the rotation that an abort takes back: the first that it saw.
        undoing: Whether it sent that a broken version is taken back, and got no answer.
    """

    owner: str
    who: str
    intent: Intent
    inspected: Inspection | None = None
    claimed: bool = False
    minted: int | None = None
    key: str = ""
    sends: int = 0
    added: int | None = None
    located: "tuple[Locate, tuple[Found, ...]] | None" = None
    tested: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    swept: tuple[tuple[int, bool, tuple[Found, ...]], ...] = ()
    disabled: frozenset[tuple[int, str]] = frozenset()
    destroyed: frozenset[tuple[int, str]] = frozenset()
    ending: Ending | None = None
    made: int | None = None
    gone: frozenset[str] = frozenset()
    aim: str = ""
    undoing: bool = False

    def aiming(self, rotation: Rotation | None) -> "Memory":
        """Return the memory of who has seen this rotation: an abort is about no later one."""
        if self.intent is not Intent.ABORT or self.aim or rotation is None:
            return self
        return replace(self, aim=rotation.rotation_id)

    def claiming(self) -> "Memory":
        """Return the memory of who has just taken a rotation, without any earlier payload."""
        return replace(self, claimed=True, minted=None, key="", sends=0, added=None, located=None)

    def having_minted(self, checksum: int, key: str) -> "Memory":
        """Return the memory after a mint."""
        return replace(self, minted=checksum, key=key, sends=0, added=None)

    def having_sent(self, version: int | None) -> "Memory":
        """Return the memory after a payload was sent; the version is None if no answer came."""
        return replace(self, sends=self.sends + 1, added=version, located=None)

    def having_located(self, action: "Locate", found: tuple[Found, ...]) -> "Memory":
        """Return the memory after a look for lost versions."""
        if action.sweep is None:
            return replace(self, located=(action, found))
        kept = tuple(entry for entry in self.swept if entry[:2] != action.sweep)
        return replace(self, swept=(*kept, (*action.sweep, found)))

    def having_tested(self, version: int, works: bool) -> "Memory":
        """Return the memory after a test."""
        if works:
            return replace(self, tested=self.tested | {version})
        return replace(self, broken=self.broken | {version})

    def found_for(self, rotation: Rotation) -> tuple[Found, ...] | None:
        """Return the versions of a rotation's payloads, None when nobody looked for them yet."""
        look = Locate(rotation.base, rotation.checksums)
        return self.located[1] if self.located and self.located[0] == look else None

    def found_by(self, sweep: tuple[int, bool]) -> tuple[Found, ...] | None:
        """Return what a sweep found, None when it was not made."""
        return next((entry[2] for entry in self.swept if entry[:2] == sweep), None)


@dataclass(frozen=True, slots=True)
class Write:
    """Write journal and aliases, if the secret is still as it was seen.

    Attributes:
        journal: The new journal.
        aliases: The new aliases.
        memory: What the rotator knows once the write is done.
        note: What it does, for people.
        claims: Whether it takes a rotation; a process does that once in its life.
    """

    journal: Journal
    aliases: tuple[tuple[str, int], ...]
    memory: Memory
    note: str
    claims: bool = False

    def unanswered(self, memory: Memory) -> Memory:
        """Return the memory of who sent this and doesn't know whether it was done."""
        if self.memory.ending is Ending.FAILED:
            return replace(memory, undoing=True)
        return memory.claiming() if self.claims else memory


@dataclass(frozen=True, slots=True)
class Inspect:
    """Learn of the current version."""

    current: int | None


@dataclass(frozen=True, slots=True)
class Mint:
    """Make a new credential; nobody has it yet."""


@dataclass(frozen=True, slots=True)
class Add:
    """Send the minted payload as a new version."""


@dataclass(frozen=True, slots=True)
class Locate:
    """Look for enabled versions above ``base`` whose payload has one of these checksums.

    ``sweep`` names the sweep that asks: its checksum, and whether it is after its end.
    """

    base: int
    checksums: tuple[int, ...]
    sweep: tuple[int, bool] | None = None


@dataclass(frozen=True, slots=True)
class Test:
    """Connect to Spanner with a version, by its number."""

    version: int


@dataclass(frozen=True, slots=True)
class Disable:
    """Disable a version (unless 0) and the service-account key in it."""

    version: int
    key: str


@dataclass(frozen=True, slots=True)
class Destroy:
    """Destroy a disabled version (unless 0) and delete the service-account key in it."""

    version: int
    key: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing can be done before this time."""

    until: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Finish:
    """This rotator's work is over.

    Attributes:
        ending: How.
        note: Why, for people.
    """

    ending: Ending
    note: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """Somebody else is at it."""

    rotation: Rotation


Action: TypeAlias = (
    Write | Inspect | Mint | Add | Locate | Test | Disable | Destroy | Wait | Finish | Blocked
)
