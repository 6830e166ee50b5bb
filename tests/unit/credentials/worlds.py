"""A world in which rotators run step by step, and a search through everything that can happen.

A step is either an observation (the process reads the secret and decides) or the effect of what it
decided; between any two steps the others may go on, the process may be killed, a request may be
lost before or after its effect, and the clock may move.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from spanctl.credentials.rotation.actions import (
    Action,
    Add,
    Blocked,
    Destroy,
    Disable,
    Finish,
    Found,
    Inspect,
    Inspection,
    Intent,
    Locate,
    Memory,
    Mint,
    Policy,
    Seen,
    Test,
    Wait,
    Write,
)
from spanctl.credentials.rotation.journal import CURRENT, PREVIOUS, Journal, Phase, Pin
from spanctl.credentials.rotation.machine import decide

UNIT = timedelta(seconds=10)
START = datetime(2026, 1, 1, tzinfo=UTC)
FAR = START + timedelta(days=1)
POLICY = Policy(lease=timedelta(0), drain=UNIT, destroy_after=UNIT, sweep=UNIT, sends=2)
"""Claims lapse at once, so that a rotator can be taken over whenever it is slow."""

ENABLED, DISABLED, DESTROYED = "enabled", "disabled", "destroyed"


@dataclass(frozen=True, slots=True)
class World:
    """The secret, its versions and keys, the network and the clock."""

    seen: Seen
    versions: tuple[tuple[str, int], ...] = ((ENABLED, 0),)
    dead_keys: frozenset[str] = frozenset()
    minted: int = 0
    in_flight: frozenset[int] = frozenset()
    promoted: frozenset[tuple[str, int]] = frozenset()
    ticks: int = 0
    reader: tuple[int, bool] | None = None
    faults: int = 0

    @property
    def now(self) -> datetime:
        return START + self.ticks * UNIT

    def works(self, version: int | None) -> bool:
        """Tell whether a version lets its holder in: enabled, good, its key alive."""
        if not version or version > len(self.versions):
            return False
        state, checksum = self.versions[version - 1]
        return state == ENABLED and checksum % 2 == 0 and f"k{checksum}" not in self.dead_keys

    def landed(self, checksum: int) -> "World":
        return replace(
            self,
            versions=(*self.versions, (ENABLED, checksum)),
            in_flight=self.in_flight - {checksum},
        )

    def turned(self, version: int, key: str, state: str) -> "World":
        versions = list(self.versions)
        if version and versions[version - 1][0] != DESTROYED:
            versions[version - 1] = (state, versions[version - 1][1])
        dead = self.dead_keys | ({key} if key else set())
        return replace(self, versions=tuple(versions), dead_keys=dead)


@dataclass(frozen=True, slots=True)
class Process:
    """A rotator: what it knows, what it is about to do, and how it ended."""

    memory: Memory
    action: Action | None = None
    base: Seen | None = None
    over: str = ""


DEAD = Memory(owner="", who="", intent=Intent.TIDY)


@dataclass(frozen=True, slots=True)
class Rules:
    """What can happen in a search."""

    ticks: int = 0
    bad: bool = False
    reader: bool = False
    compared: bool = True
    blind_to_pins: bool = False
    decide: Callable[[Seen, Memory, datetime, Policy], Action] = decide


def begin(faults: int = 0) -> World:
    """Return the start: version 1 is current and works."""
    return World(Seen(Journal(), ((CURRENT, 1),)), faults=faults)


def born(owner: str, intent: Intent) -> Process:
    return Process(Memory(owner=owner, who=owner, intent=intent))


# -- what can happen next


def moves(world: World, process: Process, rules: Rules) -> Iterator[tuple[World, Process]]:
    if process.over:
        return
    if process.action is None:
        changed = observing(world, process, rules)
        if isinstance(changed.action, Inspect | Mint | Test):
            # Only this process sees what they do, so nothing can come in between.
            yield from performing(world, changed, rules)
        else:
            yield world, changed
    else:
        yield from performing(world, process, rules)
    if world.faults:
        less = replace(world, faults=world.faults - 1)
        for intent in (Intent.RESUME, Intent.ABORT):
            name, _, count = process.memory.owner.partition(".")
            yield less, born(f"{name}.{int(count) + 1}", intent)


def observing(world: World, process: Process, rules: Rules) -> Process:
    """Read the secret and decide."""
    seen = replace(world.seen, pins=()) if rules.blind_to_pins else world.seen
    process = replace(process, memory=process.memory.aiming(seen.journal.rotation))
    action = rules.decide(seen, process.memory, world.now, POLICY)
    match action:
        case Finish(ending) if process.memory.ending is None:
            return replace(process, memory=replace(process.memory, ending=ending))
        case Finish() | Wait():
            return Process(DEAD, over=str(process.memory.ending))
        case Blocked():
            return Process(DEAD, over="blocked")
        case _:
            base = world.seen if isinstance(action, Write) else None
            return replace(process, action=action, base=base)


def performing(  # noqa: C901, PLR0912 - one case an action
    world: World, process: Process, rules: Rules
) -> Iterator[tuple[World, Process]]:
    """Let the action happen, or get lost."""
    memory = process.memory
    done = replace(process, action=None, base=None)
    less = replace(world, faults=world.faults - 1)
    match process.action:
        case Write() as write:
            if rules.compared and world.seen != process.base:
                yield world, done
            else:
                yield written(world, write), replace(done, memory=write.memory)
                if world.faults:
                    lost = replace(done, memory=write.unanswered(memory))
                    yield written(less, write), lost
                    yield less, lost
        case Inspect(current):
            key = f"k{world.versions[current - 1][1]}" if current else ""
            inspected = Inspection(current, len(world.versions), key)
            yield world, replace(done, memory=replace(memory, inspected=inspected))
        case Mint():
            after = replace(world, minted=world.minted + 1)
            for bad in (0, 1) if rules.bad else (0,):
                checksum = 2 * after.minted + bad
                yield after, replace(done, memory=memory.having_minted(checksum, f"k{checksum}"))
        case Add():
            checksum = memory.minted or 0
            landed = world.landed(checksum)
            yield landed, replace(done, memory=memory.having_sent(len(landed.versions)))
            if world.faults:
                lost = replace(done, memory=memory.having_sent(None))
                yield less.landed(checksum), lost
                yield less, lost
                yield replace(less, in_flight=world.in_flight | {checksum}), lost
        case Locate(base, checksums) as look:
            found = tuple(
                Found(number, checksum)
                for number, (state, checksum) in enumerate(world.versions, 1)
                if number > base and state == ENABLED and checksum in checksums
            )
            yield world, replace(done, memory=memory.having_located(look, found))
        case Test(version):
            works = world.works(version)
            yield world, replace(done, memory=memory.having_tested(version, works))
        case Disable(version, key):
            known = replace(memory, disabled=memory.disabled | {(version, key)})
            yield world.turned(version, key, DISABLED), replace(done, memory=known)
        case Destroy(version, key):
            known = replace(memory, destroyed=memory.destroyed | {(version, key)})
            yield world.turned(version, key, DESTROYED), replace(done, memory=known)
        case other:
            raise AssertionError(other)


def written(world: World, write: Write) -> World:
    # What people read of the past decides nothing, so it must not tell states apart.
    journal = replace(write.journal, history=())
    seen = replace(world.seen, journal=journal, aliases=write.aliases)
    promoted = world.promoted
    rotation = write.journal.rotation
    if rotation and rotation.phase is Phase.PROMOTED and rotation.new is not None:
        promoted = promoted | {(rotation.rotation_id, rotation.new)}
    return replace(world, seen=seen, promoted=promoted)


# -- a flow that reads the secret


def _reads_ripe(world: World) -> bool:
    """Tell whether a reader that doesn't pin still holds a version that is being drained.

    It takes up the new one within the drain: that is what the drain's length is for.
    """
    if world.reader is None or world.reader[1]:
        return False
    return world.seen.journal.retiree(world.reader[0]) is not None


def reader_moves(world: World) -> Iterator[World]:
    """Resolve an alias that may lag, pin what was resolved, use it, and let go."""
    if world.reader is None:
        for version in {to for name, to in world.seen.aliases if name in (CURRENT, PREVIOUS)}:
            yield replace(world, reader=(version, False))
        return
    version, pinned = world.reader
    pin = Pin("run", version, FAR)
    if pinned:
        yield replace(world, reader=None, seen=replace(world.seen, pins=()))
        return
    yield replace(world, reader=None)
    retiree = world.seen.journal.retiree(version)
    if retiree is None or retiree.stage.value == "waiting":
        yield replace(world, reader=(version, True), seen=replace(world.seen, pins=(pin,)))


# -- the search


def around(world: World, rules: Rules) -> Iterator[World]:
    """Yield what the network, the clock and a reader may do."""
    for checksum in sorted(world.in_flight):
        yield world.landed(checksum)
    if world.ticks < rules.ticks and not world.in_flight and not _reads_ripe(world):
        yield replace(world, ticks=world.ticks + 1)
    if rules.reader:
        yield from reader_moves(world)


class Search:
    """Visits every state that can be reached, and checks each.

    A state is a world and a process for each rotator; worlds and processes are numbered, so that
    what one process can do in one world is worked out once, whatever the others are at.
    """

    def __init__(self, rules: Rules, *intents: Intent, faults: int) -> None:
        self.rules = rules
        self.worlds: dict[World, int] = {}
        self.processes: dict[Process, int] = {}
        self._worlds: list[World] = []
        self._processes: list[Process] = []
        self._moves: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._around: dict[int, list[int]] = {}
        self.steps = 0
        born_all = [born(f"{i}.0", intent) for i, intent in enumerate(intents)]
        start = (self._world(begin(faults)), *(self._process(one) for one in born_all))
        self.states = {start}
        self._run(start)

    @property
    def endings(self) -> set[str]:
        """How processes ended."""
        return {process.over for process in self.processes if process.over}

    def _run(self, start: tuple[int, ...]) -> None:
        queue = deque([start])
        while queue:
            state = queue.popleft()
            for after in self._following(state):
                self.steps += 1
                if after not in self.states:
                    self.states.add(after)
                    queue.append(after)

    def _following(self, state: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        world, *processes = state
        for index, process in enumerate(processes):
            for after, changed in self._moved(world, process):
                yield (after, *processes[:index], changed, *processes[index + 1 :])
        if world not in self._around:
            found = around(self._worlds[world], self.rules)
            self._around[world] = [self._world(after) for after in found]
        # A process that is asleep for the whole life of a sweep may leave a stray version behind.
        sending = any(isinstance(self._processes[one].action, Add) for one in processes)
        for after in self._around[world]:
            if not (sending and self._worlds[after].ticks > self._worlds[world].ticks):
                yield (after, *processes)

    def _moved(self, world: int, process: int) -> list[tuple[int, int]]:
        key = (world, process)
        if key not in self._moves:
            found = moves(self._worlds[world], self._processes[process], self.rules)
            self._moves[key] = [(self._world(w), self._process(p)) for w, p in found]
        return self._moves[key]

    def _world(self, world: World) -> int:
        number = self.worlds.get(world)
        if number is None:
            check(world)
            number = self.worlds[world] = len(self._worlds)
            self._worlds.append(world)
        return number

    def _process(self, process: Process) -> int:
        number = self.processes.get(process)
        if number is None:
            number = self.processes[process] = len(self._processes)
            self._processes.append(process)
        return number


def check(world: World) -> None:
    """Assert what must hold at every instant."""
    current = world.seen.alias(CURRENT)
    assert world.works(current), "current doesn't work"
    rotations = [rotation for rotation, _ in world.promoted]
    assert len(rotations) == len(set(rotations)), "one rotation promoted two versions"
    assert world.seen.journal.retiree(current) is None, "current is on its way out"
    if world.reader is not None:
        version, pinned = world.reader
        stage = world.seen.journal.retiree(version)
        gone = not world.works(version)
        assert not (pinned and gone), "a pinned version was disabled"
        assert not (gone and stage and stage.stage.value == "waiting"), "disabled while waiting"


def settle(world: World, intent: Intent) -> tuple[World, str]:
    """Run one process alone until it is over; nothing is lost any more.

    Raises:
        AssertionError: It doesn't end.
    """
    rules = Rules()
    process = born("last.0", intent)
    for _ in range(200):
        if process.over:
            return world, process.over
        world, process = next(moves(world, process, rules))
        check(world)
    raise AssertionError(process)
