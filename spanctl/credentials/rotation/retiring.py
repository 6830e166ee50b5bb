"""The end of versions: drained, unpinned, then disabled, then destroyed, each step for good."""

from dataclasses import replace
from datetime import datetime

from spanctl.credentials.rotation.actions import (
    Action,
    Destroy,
    Disable,
    Ending,
    Finish,
    Locate,
    Memory,
    Policy,
    Seen,
    Wait,
    Write,
)
from spanctl.credentials.rotation.journal import (
    PREVIOUS,
    Journal,
    Phase,
    Retiree,
    Rotation,
    Stage,
    Sweep,
)


def tidy(seen: Seen, memory: Memory, now: datetime, policy: Policy) -> Action:
    """Return the next action that is due on old versions; any process may take it at any time."""
    for sweep in seen.journal.sweeps:
        action = _sweep(seen, sweep, memory, now)
        if action is not None:
            return action
    for retiree in seen.journal.retirees:
        action = _retire(seen, retiree, memory, now, policy)
        if action is not None:
            return action
    return _rest(seen, memory, now)


def _sweep(seen: Seen, sweep: Sweep, memory: Memory, now: datetime) -> Action | None:
    """Find versions that nobody knows of, because the answer to their making was lost."""
    rotation = seen.journal.rotation
    if _in_use(rotation, sweep):
        return None
    # Only a look after the end has seen all that can ever arrive.
    look = (sweep.checksum, now >= sweep.until)
    found = memory.found_by(look)
    if found is None:
        return Locate(sweep.base, (sweep.checksum,), look)
    known = {version for _, version in seen.aliases}
    known |= {entry.version for entry in seen.journal.retirees}
    known |= {rotation.new} if rotation is not None and rotation.new else set()
    strays = tuple(one.version for one in found if one.version not in known)
    more = tuple(Retiree(version, now, key=sweep.key) for version in strays)
    if not more and now < sweep.until:
        return None
    rest = tuple(kept for kept in seen.journal.sweeps if kept != sweep)
    if now < sweep.until:
        rest = (*rest, replace(sweep, key=""))
    elif sweep.key and not more:
        more = (Retiree(0, now, key=sweep.key),)
    journal = replace(seen.journal, retirees=(*seen.journal.retirees, *more), sweeps=rest)
    return Write(journal, seen.aliases, memory, _told(strays))


def _told(strays: tuple[int, ...]) -> str:
    if not strays:
        return "nothing that was lost can arrive any more"
    return f"found stray versions: {', '.join(str(version) for version in strays)}"


def _in_use(rotation: Rotation | None, sweep: Sweep) -> bool:
    """Tell whether the rotation under way may still adopt that payload."""
    return (
        rotation is not None
        and rotation.phase is not Phase.PROMOTED
        and sweep.checksum in rotation.checksums
    )


def _retire(  # noqa: PLR0911 - one return a step
    seen: Seen, retiree: Retiree, memory: Memory, now: datetime, policy: Policy
) -> Action | None:
    match retiree.stage:
        case Stage.WAITING:
            if now < retiree.after or held_until(seen, retiree.version, now) is not None:
                return None
            return _disabling(seen, retiree, memory)
        case Stage.DISABLING:
            if (retiree.version, retiree.key) not in memory.disabled:
                return Disable(retiree.version, retiree.key)
            later = replace(retiree, stage=Stage.DISABLED, after=now + policy.destroy_after)
            journal = _replaced(seen.journal, retiree, later)
            note = f"disabled version {retiree.version}"
            return Write(journal, seen.aliases, memory, note)
        case Stage.DISABLED:
            if now < retiree.after:
                return None
            if (retiree.version, retiree.key) not in memory.destroyed:
                return Destroy(retiree.version, retiree.key)
            journal = _replaced(seen.journal, retiree, None)
            note = f"destroyed version {retiree.version}"
            return Write(journal, seen.aliases, memory, note)


def _disabling(seen: Seen, retiree: Retiree, memory: Memory) -> Write:
    """Mark the point of no return, in one write with all that could still object."""
    journal = _replaced(seen.journal, retiree, replace(retiree, stage=Stage.DISABLING))
    aliases = seen.aliases
    if seen.alias(PREVIOUS) == retiree.version:
        aliases = seen.with_aliases({PREVIOUS: None})
    return Write(journal, aliases, memory, f"begin to disable version {retiree.version}")


def held_until(seen: Seen, version: int, now: datetime) -> datetime | None:
    """Return until when a version may not be disabled, None when nothing holds it."""
    live = [pin.until for pin in seen.pins if pin.version == version and now < pin.until]
    return max(live, default=None)


def _replaced(journal: Journal, retiree: Retiree, by: Retiree | None) -> Journal:
    changed = [by if entry is retiree else entry for entry in journal.retirees]
    return replace(journal, retirees=tuple(entry for entry in changed if entry is not None))


def _rest(seen: Seen, memory: Memory, now: datetime) -> Action:
    """Nothing is due: say what comes next, or that all is done."""
    times = []
    for retiree in seen.journal.retirees:
        pinned = held_until(seen, retiree.version, now)
        waits = retiree.stage is Stage.WAITING and pinned is not None
        times.append(max(retiree.after, pinned) if waits and pinned else retiree.after)
    times += [sweep.until for sweep in seen.journal.sweeps]
    if times:
        return Wait(min(times), "old versions are kept until then")
    return Finish(memory.ending or Ending.NOTHING, "nothing is left to do")
