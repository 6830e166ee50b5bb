"""The rotation as a pure machine: from what is seen and remembered to the next action.

What it relies on, and nothing else: a write of journal and aliases is compared with what was read,
and a version's number, once given, names the same payload for ever. Clocks decide how soon
something happens, never whether it is safe: a rotator that was taken over in its sleep can still
add a version (which is swept up) or repeat a step that the journal had already made irreversible.

The steps: *claim* · mint · *adding* (the checksum of what will be sent) · add · *created* (alias
``pending``) · test · *promoted* (``current`` and ``previous`` in one write) · drain · *disabling*
(the point of no return) · disable · *disabled* · destroy. Those in italics are journal writes.
"""

from dataclasses import replace
from datetime import datetime

from spanctl.credentials.rotation.actions import (
    Action,
    Add,
    Blocked,
    Ending,
    Finish,
    Found,
    Inspect,
    Intent,
    Locate,
    Memory,
    Mint,
    Policy,
    Seen,
    Test,
    Write,
)
from spanctl.credentials.rotation.journal import (
    CURRENT,
    PENDING,
    PREVIOUS,
    Done,
    Phase,
    Retiree,
    Rotation,
    Stage,
    Sweep,
)
from spanctl.credentials.rotation.retiring import tidy


def decide(  # noqa: PLR0911 - one return a state
    seen: Seen, memory: Memory, now: datetime, policy: Policy
) -> Action:
    """Return the next action of a rotator.

    Args:
        seen: The secret as it was just read.
        memory: What this process knows.
        now: The time.
        policy: How patient it is.
    """
    if memory.ending is not None or memory.intent is Intent.TIDY:
        return tidy(seen, memory, now, policy)
    rotation = seen.journal.rotation
    if rotation is not None and memory.aim not in {"", rotation.rotation_id}:
        return Finish(Ending.REFUSED, "another rotation has begun since")
    if rotation is None or rotation.phase is Phase.PROMOTED:
        return _at_rest(seen, memory, now, policy)
    if rotation.owner != memory.owner:
        if now < rotation.until and rotation.owner not in memory.gone:
            return Blocked(rotation)
        return _take_over(seen, rotation, memory, now, policy)
    if memory.intent is Intent.ABORT:
        return _undo(seen, rotation, memory, now, Ending.ABORTED)
    match rotation.phase:
        case Phase.CLAIMED:
            return _announce(seen, rotation, memory, now, policy)
        case Phase.ADDING:
            return _adding(seen, rotation, memory, now, policy)
        case _:
            return _created(seen, rotation, memory, now, policy)


# -- beginning


def _at_rest(  # noqa: PLR0911 - one return a state
    seen: Seen, memory: Memory, now: datetime, policy: Policy
) -> Action:
    """Begin, go back, or find what became of this process's own rotation."""
    rotation = seen.journal.rotation
    if memory.intent is Intent.ABORT:
        return _go_back(seen, memory, now, policy)
    if rotation is not None and rotation.owner == memory.owner:
        return Finish(Ending.PROMOTED, f"promoted version {rotation.new}")
    if memory.claimed:
        if memory.undoing:
            return Finish(Ending.FAILED, "the new version did not work and was taken back")
        return Finish(Ending.REFUSED, "somebody else took the rotation over and ended it")
    if memory.intent is Intent.RESUME:
        return Finish(Ending.NOTHING, "no rotation is under way")
    current, previous = seen.promoted
    if memory.inspected is None or memory.inspected.current != current:
        return Inspect(current)
    begun = Rotation(
        rotation_id=f"{memory.owner}-{memory.inspected.highest}",
        owner=memory.owner,
        who=memory.who,
        until=now + policy.lease,
        started=now,
        old=current,
        before=previous,
        base=memory.inspected.highest,
        old_key=memory.inspected.key,
        old_expiry=memory.inspected.expiry,
    )
    journal = replace(seen.journal, rotation=begun)
    return Write(journal, seen.aliases, memory.claiming(), "claimed the rotation", claims=True)


def _take_over(
    seen: Seen, rotation: Rotation, memory: Memory, now: datetime, policy: Policy
) -> Action:
    if memory.claimed:
        return Blocked(rotation)
    mine = replace(rotation, owner=memory.owner, who=memory.who, until=now + policy.lease)
    journal = replace(seen.journal, rotation=mine)
    note = f"took over from {rotation.who}, who is gone"
    return Write(journal, seen.aliases, memory.claiming(), note, claims=True)


# -- making a version


def _announce(
    seen: Seen, rotation: Rotation, memory: Memory, now: datetime, policy: Policy
) -> Action:
    """Journal the checksum of a payload before it is sent, so that it can always be found."""
    # What was sent for another rotation may arrive there, and what was announced here is too old
    # to be sent: neither is a payload for this one.
    if memory.minted is None or memory.sends or memory.minted in rotation.checksums:
        return Mint()
    changed = replace(
        rotation,
        phase=Phase.ADDING,
        until=now + policy.lease,
        checksums=(*rotation.checksums, memory.minted),
        keys=(*rotation.keys, memory.key),
    )
    sweep = Sweep(memory.minted, rotation.base, now + policy.sweep, memory.key)
    journal = replace(seen.journal, rotation=changed, sweeps=(*seen.journal.sweeps, sweep))
    return Write(journal, seen.aliases, memory, "announced a new version")


def _adding(
    seen: Seen, rotation: Rotation, memory: Memory, now: datetime, policy: Policy
) -> Action:
    # A payload that is sent when nobody looks for it any more would stay behind.
    looked_for = {sweep.checksum for sweep in seen.journal.sweeps if now < sweep.until}
    announced = memory.minted in rotation.checksums and memory.minted in looked_for
    found = memory.found_for(rotation)
    if announced and memory.minted is not None and memory.added is not None:
        found = (Found(memory.added, memory.minted),)
    elif announced and not memory.sends:
        return Add()
    if found is None:
        return Locate(rotation.base, rotation.checksums)
    if found:
        first = min(found, key=lambda one: one.version)
        return _adopt(seen, rotation, first, replace(memory, located=None), now + policy.lease)
    if not announced:
        return _announce(seen, rotation, memory, now, policy)
    if memory.sends < policy.sends:
        return Add()
    return Finish(Ending.REFUSED, "no answer came to the new version; resume later")


def _adopt(seen: Seen, rotation: Rotation, found: Found, memory: Memory, until: datetime) -> Write:
    key = rotation.keys[rotation.checksums.index(found.checksum)]
    changed = replace(rotation, phase=Phase.CREATED, new=found.version, key=key, until=until)
    sweeps = _known(seen.journal.sweeps, (found,))
    if memory.sends == 1 and memory.added == found.version:
        # Sent once and answered: no second copy of it can be under way.
        sweeps = tuple(one for one in sweeps if one.checksum != found.checksum)
    journal = replace(seen.journal, rotation=changed, sweeps=sweeps)
    aliases = seen.with_aliases({PENDING: found.version})
    return Write(journal, aliases, memory, f"created version {found.version}")


def _known(sweeps: tuple[Sweep, ...], found: tuple[Found, ...]) -> tuple[Sweep, ...]:
    """Take their keys from sweeps whose payload was found: a copy must not end its key."""
    known = {one.checksum for one in found}
    return tuple(replace(one, key="") if one.checksum in known else one for one in sweeps)


# -- promoting


def _created(
    seen: Seen, rotation: Rotation, memory: Memory, now: datetime, policy: Policy
) -> Action:
    """Test, in this very process, then promote: a test counts only for who made it."""
    if rotation.new in memory.broken:
        return _undo(seen, rotation, memory, now, Ending.FAILED)
    if rotation.new is None or rotation.new not in memory.tested:
        return Test(rotation.new or 0)
    old = rotation.old
    retirees = seen.journal.retirees
    if old is not None:
        after = max(now + policy.drain, rotation.old_expiry or now)
        retirees = (*retirees, Retiree(old, after, key=rotation.old_key))
    journal = replace(
        seen.journal,
        # Nobody works on it any more, but it can be undone until the old version is disabled.
        rotation=replace(rotation, phase=Phase.PROMOTED, until=now),
        retirees=retirees,
        history=_remember(seen, memory, now, rotation.new, Ending.PROMOTED),
    )
    aliases = seen.with_aliases({CURRENT: rotation.new, PREVIOUS: old, PENDING: None})
    ended = replace(memory, ending=Ending.PROMOTED, made=rotation.new)
    return Write(journal, aliases, ended, f"promoted version {rotation.new}")


# -- going back


def _undo(seen: Seen, rotation: Rotation, memory: Memory, now: datetime, ending: Ending) -> Action:
    """Take back a rotation that has not promoted anything; nobody uses what it made."""
    found: tuple[Found, ...] = ()
    made: tuple[Retiree, ...] = ()
    if rotation.phase is Phase.ADDING:
        looked = memory.found_for(rotation)
        if looked is None:
            return Locate(rotation.base, rotation.checksums)
        found = looked
        keys = dict(zip(rotation.checksums, rotation.keys, strict=True))
        made = tuple(Retiree(one.version, now, key=keys[one.checksum]) for one in found)
    elif rotation.new is not None:
        made = (Retiree(rotation.new, now, key=rotation.key),)
    journal = replace(
        seen.journal,
        rotation=None,
        retirees=(*seen.journal.retirees, *made),
        sweeps=_known(seen.journal.sweeps, found),
        history=_remember(seen, memory, now, rotation.new, ending),
    )
    ended = replace(memory, ending=ending)
    return Write(journal, seen.with_aliases({PENDING: None}), ended, "took the rotation back")


def _go_back(seen: Seen, memory: Memory, now: datetime, policy: Policy) -> Action:
    """Undo a promotion, as long as the old version is untouched and still works."""
    rotation = seen.journal.rotation
    if rotation is None or rotation.old is None or rotation.new is None:
        ending = Ending.ABORTED if memory.claimed or memory.tested else Ending.NOTHING
        return Finish(ending, "no rotation is under way")
    old = seen.journal.retiree(rotation.old)
    if old is None or old.stage is not Stage.WAITING:
        return Finish(Ending.REFUSED, f"too late: version {rotation.old} is already disabled")
    if rotation.old in memory.broken:
        return Finish(Ending.REFUSED, f"version {rotation.old} does not work any more")
    if rotation.old not in memory.tested:
        return Test(rotation.old)
    before = seen.journal.retiree(rotation.before)
    kept = before is not None and before.stage is Stage.WAITING
    rest = tuple(entry for entry in seen.journal.retirees if entry is not old)
    journal = replace(
        seen.journal,
        rotation=None,
        # Readers may have taken it up meanwhile, so it drains as any other.
        retirees=(*rest, Retiree(rotation.new, now + policy.drain, key=rotation.key)),
        history=_remember(seen, memory, now, rotation.new, Ending.ABORTED),
    )
    aliases = seen.with_aliases(
        {CURRENT: rotation.old, PREVIOUS: rotation.before if kept else None}
    )
    ended = replace(memory, ending=Ending.ABORTED)
    return Write(journal, aliases, ended, f"went back to version {rotation.old}")


def _remember(
    seen: Seen, memory: Memory, now: datetime, version: int | None, ending: Ending
) -> tuple[Done, ...]:
    return seen.journal.remembering(Done(now, memory.who, version, ending.value))
