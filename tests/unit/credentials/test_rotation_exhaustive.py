"""Whatever two rotators do, in whatever order, killed wherever: a working credential stays.

``DEEP_SEARCH=1`` adds the searches that take minutes.
"""

import os
from dataclasses import replace
from datetime import datetime

import pytest

from spanctl.credentials.rotation.actions import (
    Action,
    Add,
    Disable,
    Ending,
    Finish,
    Inspect,
    Intent,
    Memory,
    Mint,
    Policy,
    Seen,
    Write,
)
from spanctl.credentials.rotation.journal import CURRENT, PENDING, Phase
from tests.unit.credentials.worlds import (
    ENABLED,
    Rules,
    Search,
    World,
    check,
    settle,
)

ROTATE, RESUME, ABORT, TIDY = Intent.ROTATE, Intent.RESUME, Intent.ABORT, Intent.TIDY

DEEP = pytest.mark.skipif("DEEP_SEARCH" not in os.environ, reason="takes minutes: DEEP_SEARCH=1")
CASES = [
    pytest.param((ROTATE, ROTATE), 1, Rules(), id="two rotators, one fault"),
    pytest.param((ROTATE, ABORT), 2, Rules(), id="a rotator and an abort, two faults"),
    pytest.param((ROTATE, RESUME), 1, Rules(bad=True), id="bad credentials, one fault"),
    pytest.param((ROTATE,), 1, Rules(bad=True, ticks=2), id="one rotator to the end, one fault"),
    pytest.param((ROTATE, TIDY), 0, Rules(ticks=2), id="a rotator and a tidier, to the end"),
    pytest.param((ROTATE,), 1, Rules(ticks=2, reader=True), id="a rotator and a pinning flow"),
    pytest.param((ROTATE,), 2, Rules(bad=True, ticks=2), id="one to the end", marks=DEEP),
    pytest.param((ROTATE, ROTATE), 2, Rules(), id="two rotators, two faults", marks=DEEP),
    pytest.param((ROTATE, ROTATE), 1, Rules(bad=True), id="two, bad credentials", marks=DEEP),
    pytest.param((ROTATE, RESUME), 2, Rules(), id="resume, two faults", marks=DEEP),
    pytest.param((ROTATE, ABORT), 1, Rules(bad=True, ticks=1), id="abort, late", marks=DEEP),
]


def naive(seen: Seen, memory: Memory, now: datetime, policy: Policy) -> Action:
    """Rotate as most scripts do: add, move the alias, disable every other version."""
    del now, policy
    if memory.inspected is None:
        return Inspect(seen.alias(CURRENT))
    if memory.minted is None:
        return Mint()
    if memory.added is None:
        return Add()
    if memory.ending is None:
        aliases = seen.with_aliases({CURRENT: memory.added})
        return Write(seen.journal, aliases, replace(memory, ending=Ending.PROMOTED), "moved")
    for version in range(1, memory.added):
        if (version, "") not in memory.disabled:
            return Disable(version, "")
    return Finish(Ending.PROMOTED, "done")


@pytest.mark.parametrize(("intents", "faults", "rules"), CASES)
def test_every_interleaving_keeps_a_working_credential_and_converges(
    intents: tuple[Intent, ...],
    faults: int,
    rules: Rules,
) -> None:
    """Every state that can be reached holds the invariants, and a resume or an abort ends it."""
    found = Search(rules, *intents, faults=faults)
    print(f"{len(found.states)} states, {found.steps} steps, {len(found.worlds)} worlds")  # noqa: T201
    assert len(found.states) > 1000, "the search found too little to prove anything"
    worlds = list(found.worlds)
    step = 1 if "DEEP_SEARCH" in os.environ else 1 + len(worlds) // 2000
    for world in worlds[::step]:
        converges(world)
        goes_back(world)


def land(world: World) -> World:
    for checksum in sorted(world.in_flight):
        world = world.landed(checksum)
    return world


def converges(world: World) -> None:
    """Assert that one more process ends the rotation, and that only current is left at the end."""
    world, _ = settle(land(world), RESUME)
    rotation = world.seen.journal.rotation
    assert rotation is None or rotation.phase is Phase.PROMOTED
    assert world.seen.alias(PENDING) is None
    only_current_is_left(world)


def goes_back(world: World) -> None:
    """Assert that an abort leaves no trace of a rotation that promoted nothing."""
    before = world.seen.journal.rotation
    world, ending = settle(land(world), ABORT)
    if before is not None and before.phase is not Phase.PROMOTED:
        assert ending == "aborted"
        assert world.seen.journal.rotation is None
        assert world.seen.alias(CURRENT) == before.old
    assert world.seen.alias(PENDING) is None
    only_current_is_left(world)


def only_current_is_left(world: World) -> None:
    """Assert that time, and anybody who tidies, ends all versions but the current one."""
    if world.reader is not None:
        world = replace(world, reader=None, seen=replace(world.seen, pins=()))
    for _ in range(4):
        world, _ = settle(replace(world, ticks=world.ticks + 1), TIDY)
    current = world.seen.alias(CURRENT) or 0
    good = world.versions[current - 1][1]
    for number, (state, checksum) in enumerate(world.versions, 1):
        assert (state == ENABLED) == (number == current)
        # A copy of the current payload is ended, the key that both hold isn't.
        assert (f"k{checksum}" in world.dead_keys) == (checksum != good)
    assert not world.seen.journal.retirees
    assert not world.seen.journal.sweeps


def test_a_naive_rotation_breaks_at_once() -> None:
    """The search is able to find what it looks for: the usual script leaves nothing that works."""
    with pytest.raises(AssertionError, match="current doesn't work"):
        Search(Rules(decide=naive, compared=False), ROTATE, ROTATE, faults=0)


def test_an_untested_credential_breaks_a_naive_rotation_alone() -> None:
    """Even alone, a script that doesn't test promotes what lets nobody in."""
    with pytest.raises(AssertionError, match="current doesn't work"):
        Search(Rules(decide=naive, bad=True), ROTATE, faults=0)


def test_without_comparing_etags_the_protocol_breaks() -> None:
    """The etag is what keeps two rotators apart: unconditional writes break it."""
    with pytest.raises(AssertionError):
        Search(Rules(compared=False), ROTATE, ABORT, faults=0)


def test_without_looking_at_pins_the_protocol_breaks() -> None:
    """A rotator that is blind to pins disables what a flow pins, and the search sees it."""
    with pytest.raises(AssertionError, match="a pinned version was disabled"):
        Search(Rules(blind_to_pins=True, reader=True, ticks=2), ROTATE, faults=0)


def test_the_invariants_can_fail() -> None:
    """A world whose current version is disabled is refused by the check itself."""
    from tests.unit.credentials.worlds import DISABLED, begin

    with pytest.raises(AssertionError, match="current doesn't work"):
        check(replace(begin(), versions=((DISABLED, 0),)))
