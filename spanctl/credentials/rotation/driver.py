"""The driver: carries out what the machine decides, one action at a time.

It keeps nothing that matters: killed anywhere, another driver reads the journal and goes on.
"""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from spanctl.clock import now
from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import (
    Action,
    Add,
    Blocked,
    Destroy,
    Disable,
    Ending,
    Finish,
    Inspect,
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
from spanctl.credentials.rotation.hands import Hands
from spanctl.credentials.rotation.journal import (
    JOURNAL,
    Journal,
    Rotation,
    check_size,
)
from spanctl.credentials.rotation.machine import decide
from spanctl.credentials.rotation.owner import is_gone, this_one, this_owner
from spanctl.credentials.rotation.ports import (
    EtagConflictError,
    Minter,
    SecretState,
    SecretStore,
    Tester,
)
from spanctl.credentials.rotation.results import RotationResult, blocked, seen_of
from spanctl.errors import ConflictError, SpanctlError, UnreachableError

__all__ = ["RotationResult", "Rotator", "seen_of"]

_FAILURES: Final = 4
_CONFLICTS: Final = 50
_PAUSE: Final = 0.2
_ENDED: Final = (Ending.NOTHING, Ending.REFUSED)


@dataclass(kw_only=True)
class Rotator:
    """Rotates one secret.

    Attributes:
        store: Secret Manager.
        name: The secret.
        minter: Makes new credentials.
        tester: Tries them.
        policy: How patient the rotation is.
        settle: For how long a new credential may fail its test: keys take a minute to work.
        who: Who rotates, for people.
        clock: The time.
        pause: Waits some seconds.
        report: Told each step as it is done.
    """

    store: SecretStore
    name: SecretName
    minter: Minter
    tester: Tester
    policy: Policy = field(default_factory=Policy)
    settle: timedelta = timedelta(0)
    who: str = field(default_factory=this_one)
    clock: Callable[[], datetime] = now
    pause: Callable[[float], None] = time.sleep
    report: Callable[[str], None] = lambda _: None

    def rotate(self, *, wait_until: datetime | None = None) -> RotationResult:
        """Put a new, tested version in the place of the current one.

        A rotation that its rotator left behind is taken over and ended instead. Old versions are
        drained later, by any rotator, unless ``wait_until`` says how long to stay.

        Raises:
            ConflictError: Another rotator is at it; it is named.
            NotPermittedError: A role is missing.
            UnreachableError: No answer came; the rotation can be resumed.
        """
        return self._run(Intent.ROTATE, wait_until)

    def resume(self, *, wait_until: datetime | None = None) -> RotationResult:
        """Go on with a rotation that was left behind, and with what is due on old versions.

        Raises:
            ConflictError: Another rotator is at it; it is named.
            NotPermittedError: A role is missing.
            UnreachableError: No answer came; the rotation can be resumed.
        """
        return self._run(Intent.RESUME, wait_until)

    def abort(self, *, wait_until: datetime | None = None) -> RotationResult:
        """Take back a rotation, also a promoted one until its old version is disabled.

        Raises:
            ConflictError: Another rotator is at it; it is named.
            NotPermittedError: A role is missing.
            UnreachableError: No answer came.
        """
        return self._run(Intent.ABORT, wait_until)

    def tidy(self, *, wait_until: datetime | None = None) -> RotationResult:
        """Do what is due on old versions, and nothing else.

        Raises:
            NotPermittedError: A role is missing.
            UnreachableError: No answer came.
        """
        return self._run(Intent.TIDY, wait_until)

    def _run(self, intent: Intent, wait_until: datetime | None) -> RotationResult:
        run = _Run(self, intent, wait_until)
        try:
            result = run.result()
        except Exception:
            # Whoever comes next need not wait for the claim to lapse; if even that fails, it does.
            with contextlib.suppress(SpanctlError):
                run.release()
            raise
        if result.ending is Ending.REFUSED:
            run.release()
        return result


class _Run:
    """One rotator's work from start to end."""

    def __init__(self, rotator: Rotator, intent: Intent, wait_until: datetime | None) -> None:
        self._rotator = rotator
        self._wait_until = wait_until
        self._memory = Memory(owner=this_owner(), who=rotator.who, intent=intent)
        self._hands = Hands(
            rotator.store,
            rotator.name,
            rotator.minter,
            rotator.tester,
            rotator.settle,
            rotator.clock,
            rotator.pause,
        )
        self._state: SecretState | None = None
        self._steps: list[str] = []
        self._failures = 0
        self._conflicts = 0

    def result(self) -> RotationResult:
        """Act until nothing is left to do, or nothing can be done now."""
        while True:
            try:
                done = self._step()
            except UnreachableError:
                self._failures += 1
                if self._failures >= _FAILURES:
                    raise
                self._state = None
                self._rotator.pause(_PAUSE * 2**self._failures)
                continue
            if done is not None:
                return done

    def _step(self) -> RotationResult | None:
        state = self._state or self._rotator.store.get(self._rotator.name)
        self._state = state
        seen = seen_of(state)
        self._memory = self._memory.aiming(seen.journal.rotation)
        self._notice_dead(seen.journal.rotation)
        action = decide(seen, self._memory, self._now(), self._rotator.policy)
        match action:
            case Finish():
                return self._finish(action, seen)
            case Wait(until):
                if self._wait_until is None or until > self._wait_until:
                    return self._told(Ending.NOTHING, seen, until)
                self._rotator.pause(max(0.0, (until - self._now()).total_seconds()))
                self._state = None
            case Blocked(rotation):
                raise blocked(self._rotator.name, rotation)
            case Write():
                self._write(state, action)
            case _:
                self._act(action)
        return None

    def _finish(self, action: Finish, seen: Seen) -> RotationResult | None:
        if self._memory.ending is not None or action.ending in _ENDED:
            if action.ending in _ENDED and self._memory.ending is None:
                self._say(action.note)
            if self._memory.ending is None and self._memory.intent is Intent.RESUME:
                self._memory = replace(self._memory, ending=action.ending)
                return None
            return self._told(action.ending, seen, None)
        self._say(action.note)
        self._memory = replace(self._memory, ending=action.ending)
        return None

    def _told(self, ending: Ending, seen: Seen, until: datetime | None) -> RotationResult:
        return RotationResult(
            ending=self._memory.ending or ending,
            version=self._memory.made,
            current=seen.promoted[0],
            steps=tuple(self._steps),
            until=until,
        )

    def _notice_dead(self, rotation: Rotation | None) -> None:
        if (
            rotation is not None
            and rotation.owner != self._memory.owner
            and is_gone(rotation.owner)
        ):
            self._memory = replace(self._memory, gone=self._memory.gone | {rotation.owner})

    def _write(self, state: SecretState, action: Write) -> None:
        annotations = {**state.annotations, JOURNAL: action.journal.to_text()}
        check_size(annotations)
        try:
            self._state = self._rotator.store.update(
                self._rotator.name,
                aliases=dict(action.aliases),
                annotations=annotations,
                etag=state.etag,
            )
        except EtagConflictError as error:
            self._conflicts += 1
            if self._conflicts >= _CONFLICTS:
                msg = f"{self._rotator.name} is changed by others all the time"
                raise ConflictError(msg, hint="try again: spanctl creds rotate --resume") from error
            self._state = None
            self._rotator.pause(_PAUSE * min(self._conflicts, 10) / 10)
        except UnreachableError:
            self._memory = action.unanswered(self._memory)
            raise
        else:
            self._memory = action.memory
            self._say(action.note)

    def _act(self, action: Action) -> None:
        memory, hands = self._memory, self._hands
        match action:
            case Inspect(current):
                self._memory = replace(memory, inspected=hands.inspect(current))
            case Mint():
                self._memory = memory.having_minted(*hands.mint())
            case Add():
                self._memory = memory.having_sent(hands.add())
            case Locate() as look:
                self._memory = memory.having_located(look, hands.locate(look))
            case Test(version):
                self._memory = memory.having_tested(version, hands.works(version))
                self._say(f"tested version {version}")
            case Disable(version, key):
                hands.disable(version, key)
                self._memory = replace(memory, disabled=memory.disabled | {(version, key)})
            case Destroy(version, key):
                hands.destroy(version, key)
                self._memory = replace(memory, destroyed=memory.destroyed | {(version, key)})
            case _:
                raise TypeError(action)

    def release(self) -> None:
        """Let this process's claim lapse now, if it has one."""
        state = self._rotator.store.get(self._rotator.name)
        journal = Journal.from_text(state.annotations.get(JOURNAL))
        rotation = journal.rotation
        if (
            rotation is None
            or rotation.owner != self._memory.owner
            or rotation.until <= self._now()
        ):
            return
        lapsed = replace(journal, rotation=replace(rotation, until=self._now()))
        self._rotator.store.update(
            self._rotator.name,
            aliases=state.aliases,
            annotations={**state.annotations, JOURNAL: lapsed.to_text()},
            etag=state.etag,
        )

    def _now(self) -> datetime:
        # The journal keeps milliseconds.
        time = self._rotator.clock()
        return time.replace(microsecond=time.microsecond // 1000 * 1000)

    def _say(self, step: str) -> None:
        self._steps.append(step)
        self._rotator.report(step)
