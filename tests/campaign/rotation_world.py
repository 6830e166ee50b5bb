"""One secret a case: rotated under fire, read all the while, brought to an end, and judged."""

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.driver import RotationResult, seen_of
from spanctl.credentials.rotation.journal import PENDING, Phase
from spanctl.credentials.rotation.ports import VersionState
from tests.campaign import vault as vaults
from tests.campaign.model import Case, Verdict, total
from tests.campaign.vault import Meddler, Reader, Vault
from tests.campaign.zygote import Ended, Zygote

TROUBLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "none": {},
    "lost AddSecretVersion": {"lose": ("AddSecretVersion",)},
    "lost UpdateSecret": {"lose": ("UpdateSecret",)},
    "lost DisableSecretVersion": {"lose": ("DisableSecretVersion", "DestroySecretVersion")},
    "stale aliases": {"aliases": 2.0},
    "stale states": {"states": 2.0},
    "late keys": {"keys": 0.5},
    "corruption": {"corrupt": True},
    "etag conflicts": {},
}
_HASTE: Final = 0.15
"""Seconds between a meddler's changes: a rotation needs some luck, and gets it."""

_SETTLED: Final = 30.0
_GROWN: Final = 0.6
"""Seconds after which a key works also while new ones are late."""


@dataclass(slots=True)
class _Seen:
    """What a case has seen: how many rotations were asked for, and how the children ended."""

    rotations: int = 1
    ended: list[Ended] = field(default_factory=list)

    @property
    def killed(self) -> int:
        return sum(one.killed for one in self.ended)

    @property
    def promoted(self) -> list[int]:
        return [
            word[1]
            for one in self.ended
            for word in one.said
            if isinstance(word, list) and word[0] == Ending.PROMOTED and word[1] is not None
        ]


class World:
    """The lane."""

    def __init__(self, vault: Vault, zygotes: tuple[Zygote, Zygote]) -> None:
        """Take what the lane has opened."""
        self._vault = vault
        self._zygotes = zygotes
        self._next = itertools.count(1)
        self._lifetimes: dict[str, float] = {}

    def judge(self, case: Case, dice: random.Random) -> Verdict:
        """Rotate under fire, read all the while, converge, and look."""
        kind, point, trouble = (case.given[one] for one in ("kind", "point", "trouble"))
        # First of all: it ends all keys of the account.
        span = self._lifetime(kind) if point.startswith(("random", "pair")) else 0.0
        name = self._secret(kind)
        if trouble == "late keys":
            time.sleep(_GROWN)  # the first key would be switched off otherwise
        seen = _Seen()
        with contextlib.ExitStack() as around:
            # While every payload arrives damaged, nobody can read: the reader comes afterwards.
            reader = Reader(self._vault, name)
            if trouble != "corruption":
                around.enter_context(reader)
            self._vault.switch(**TROUBLES[trouble])
            try:
                with self._meddling(name, trouble):
                    self._fire(seen, name, kind, point, span, dice)
            finally:
                self._vault.switch()
            if trouble == "corruption":
                around.enter_context(reader)
            began = time.monotonic()
            intent = dice.choice(("resume", "resume", "abort"))
            verdict = self._converge(name, kind, intent, seen)
            took = time.monotonic() - began
            self._vault.try_out(name)
        self._vault.end_keys()
        lost = Verdict(lost=len(reader.failures), why="; ".join(sorted(set(reader.failures))[:3]))
        return total(
            lost,
            verdict,
            counted={
                "killed": seen.killed,
                "ended before the kill": len(seen.ended) - seen.killed,
                "reads": reader.reads,
            },
            timed={"to converge": took},
        )

    def _secret(self, kind: str) -> SecretName:
        """Make a secret whose first version is current."""
        name = self._vault.new_secret(f"case-{next(self._next)}")
        done = self._vault.rotator(name, kind).rotate()
        assert done.ending is Ending.PROMOTED, done
        return name

    def _meddling(self, name: SecretName, trouble: str) -> contextlib.AbstractContextManager[Any]:
        if trouble == "etag conflicts":
            return Meddler(self._vault, name, _HASTE)
        return contextlib.nullcontext()

    def _child(self, zygote: int, name: SecretName, kind: str, **more: Any) -> Ended:
        return self._zygotes[zygote].run(
            "tests.campaign.rotation_child:work",
            address=self._vault.address.told(),
            name=str(name),
            kind=kind,
            **more,
        )

    def _fire(  # noqa: PLR0913, PLR0917 - what a case is made of
        self,
        seen: _Seen,
        name: SecretName,
        kind: str,
        point: str,
        span: float,
        dice: random.Random,
    ) -> None:
        if point.startswith("pair"):
            self._pair(seen, name, kind, span, dice)
            return
        kill: dict[str, Any] = {}
        if point.startswith("random"):
            kill = {"kill_on": "begun", "after": dice.uniform(0.0, span)}
        seen.ended.append(self._child(0, name, kind, intent="rotate", point=point, **kill))
        if dice.random() < 1 / 3:
            again = f"{dice.choice(('before', 'after'))} call {dice.randint(1, 12)}"
            intent = dice.choice(("resume", "abort"))
            seen.ended.append(self._child(1, name, kind, intent=intent, point=again))

    def _pair(
        self, seen: _Seen, name: SecretName, kind: str, span: float, dice: random.Random
    ) -> None:
        seen.rotations = 2
        after = dice.uniform(0.0, span)
        kills = ({}, {"kill_on": "begun", "after": after} if dice.random() < 1 / 2 else {})

        def rotate(number: int) -> None:
            kill: Mapping[str, Any] = kills[number]
            seen.ended.append(self._child(number, name, kind, intent="rotate", point="", **kill))

        threads = [threading.Thread(target=rotate, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _lifetime(self, kind: str) -> float:
        """Return how long a whole rotation takes in a child, measured once."""
        if kind not in self._lifetimes:
            name = self._secret(kind)
            ended = self._child(0, name, kind, intent="rotate", point="")
            assert ended.status == 0, ended
            self._lifetimes[kind] = ended.lived
            self._vault.end_keys()
        return self._lifetimes[kind]

    # -- afterwards

    def _converge(self, name: SecretName, kind: str, intent: str, seen: _Seen) -> Verdict:
        before = self._vault.store.get(name)
        was = seen_of(before).promoted[0]
        rotator = self._vault.rotator(name, kind)
        done = getattr(rotator, intent)(wait_until=vaults.until(_SETTLED))
        after = seen_of(self._vault.store.get(name))
        current = after.promoted[0]
        promotions = sum(one.outcome == Ending.PROMOTED for one in after.journal.history) - 1
        wrong = _wrong(intent, done, was, current, seen)
        return Verdict(
            wrong=int(bool(wrong)),
            duplicate=max(0, promotions - seen.rotations),
            unresolved=len(left := self._left(name)),
            why="; ".join((*wrong, *left)),
        )

    def _left(self, name: SecretName) -> list[str]:
        """Return what is still under way, or enabled although nobody knows of it."""
        state = self._vault.store.get(name)
        seen = seen_of(state)
        rotation = seen.journal.rotation
        known = {*seen.promoted, *(one.version for one in seen.journal.retirees)}
        left = [
            f"version {one.number} is astray"
            for one in self._vault.store.versions(name)
            if one.state is VersionState.ENABLED and one.number not in known
        ]
        if PENDING in state.aliases:
            left.append("an alias pending is left")
        if rotation is not None and rotation.phase is not Phase.PROMOTED:
            left.append(f"the rotation is still {rotation.phase}")
        return left


def _wrong(
    intent: str, done: RotationResult, was: int | None, current: int | None, seen: _Seen
) -> list[str]:
    found = []
    if done.current != current:
        found.append(f"{intent} said {done.current} is current, and {current} is")
    if seen.promoted and intent == "resume" and current is not None:
        newest = max(seen.promoted)
        if current < newest and not _went_back(seen):
            found.append(f"a child promoted {newest}, and {current} is current")
    if intent == "resume" and was is not None and current is not None and current < was:
        found.append(f"resume went back from {was} to {current}")
    return found


def _went_back(seen: _Seen) -> bool:
    """Tell whether one of the children may have taken the promotion back."""
    return len(seen.ended) > 1
