"""A rotator is held up at each of its calls while another one does all of its work.

Held up for a moment, its claim holds; held up for longer than that, the other one takes it over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import pytest

from spanctl.credentials.reference import SecretName
from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.driver import seen_of
from spanctl.credentials.rotation.journal import Stage as Step
from spanctl.credentials.rotation.ports import EtagConflictError, SecretState
from spanctl.credentials.rotation.results import RotationResult
from spanctl.errors import ConflictError
from tests.unit.credentials.fakes import (
    FakeKeyMinter,
    FakeSecretStore,
    FakeTokenMinter,
    Killed,
    Stage,
)

FIRST, SECOND, EARLIER = "ada", "bea", "eve"
MOST: Final = 40
PAIRS: Final = [
    (first, second)
    for first in ("rotate", "resume", "abort")
    for second in ("rotate", "resume", "abort")
    if "abort" in {first, second}
]


@dataclass
class Race:
    """What two rotators were told, and which versions were current since the second began."""

    stage: Stage
    told: dict[str, RotationResult | ConflictError] = field(default_factory=dict)
    current: set[int] = field(default_factory=set)

    def run(self, who: str, intent: str) -> None:
        try:
            self.told[who] = getattr(self.stage.rotator(who), intent)()
        except ConflictError as error:
            self.told[who] = error

    def hold_up(self, first: str, second: str, at: int, *, lapsed: bool) -> bool:
        """Run both; tell whether the first one made that many calls."""
        trouble = self.stage.trouble
        trouble.calls = 0

        def watch() -> None:
            self.check()
            if trouble.calls == at and SECOND not in self.told:
                trouble.watch = look
                if lapsed:
                    self.stage.clock.forward(minutes=3)
                self.run(SECOND, second)

        def look() -> None:
            self.check()
            self.current.add(self.stage.store.state.aliases["current"])

        trouble.watch = watch
        self.run(FIRST, first)
        return SECOND in self.told

    def check(self) -> None:
        """Assert that what is current works, and so does what others may still hold."""
        self.stage.check()
        for old in seen_of(self.stage.store.state).journal.retirees:
            held = old.stage is Step.WAITING and self.stage.clock() < old.after
            assert not held or self.stage.works(old.version)

    def history(self) -> list[tuple[str, int | None, str]]:
        journal = seen_of(self.stage.store.state).journal
        return [(done.who, done.version, done.outcome) for done in journal.history]


def abandoned(stage: Stage, at: int) -> None:
    stage.trouble.at, stage.trouble.kind = at, "after"
    with pytest.raises(Killed):
        stage.rotator(EARLIER).rotate()
    stage.revive()


def promoted(stage: Stage, times: int) -> None:
    for _ in range(times):
        stage.rotator(EARLIER).rotate()


BEFORE: Final = {
    "nothing": lambda stage: promoted(stage, 0),
    "claimed": lambda stage: abandoned(stage, 4),
    "announced": lambda stage: abandoned(stage, 6),
    "added": lambda stage: abandoned(stage, 7),
    "created": lambda stage: abandoned(stage, 8),
    "promoted": lambda stage: promoted(stage, 1),
    "promoted twice": lambda stage: promoted(stage, 2),
}


def is_true(race: Race, who: str) -> None:
    """Assert that what a rotator was told is what the history says of it."""
    told, history = race.told[who], race.history()
    own = [(version, outcome) for by, version, outcome in history if by == who]
    if isinstance(told, ConflictError):
        assert own == []
        assert (SECOND if who == FIRST else FIRST) in told.message
        return
    assert told.current in race.current
    match told.ending:
        case Ending.PROMOTED:
            assert own == [(told.version, "promoted")]
        case Ending.ABORTED:
            assert "aborted" in {outcome for _, _, outcome in history}
            assert {outcome for _, outcome in own} <= {"aborted"}
        case Ending.FAILED:
            assert [outcome for _, outcome in own] == ["failed"]
        case _:
            assert own == []


@pytest.mark.parametrize("kind", [FakeTokenMinter, FakeKeyMinter])
@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("lapsed", [False, True], ids=["in time", "too late"])
def test_one_works_at_every_instant_and_both_tell_the_truth(
    kind: type[FakeTokenMinter], before: str, lapsed: bool
) -> None:
    """An abort meets a rotation, its resumption and another abort, at each step of each."""
    for first, second in PAIRS:
        for at in range(1, MOST):
            race = Race(Stage(kind))
            BEFORE[before](race.stage)
            if not race.hold_up(first, second, at, lapsed=lapsed):
                break
            race.check()
            race.current.add(race.stage.store.state.aliases["current"])
            is_true(race, SECOND)
            is_true(race, FIRST)
        assert 1 < at < MOST


@pytest.mark.parametrize(("first", "second"), [("abort", "tidy"), ("tidy", "abort")])
def test_after_the_drain_it_is_taken_back_or_ended(first: str, second: str) -> None:
    """Never both: what is current works, and who comes too late says so."""
    ends = set()
    for at in range(1, MOST):
        race = Race(Stage(FakeKeyMinter))
        promoted(race.stage, 1)
        race.stage.clock.forward(hours=2)
        if not race.hold_up(first, second, at, lapsed=False):
            break
        race.check()
        race.current.add(race.stage.store.state.aliases["current"])
        is_true(race, FIRST)
        is_true(race, SECOND)
        aborted = race.told[FIRST if first == "abort" else SECOND]
        assert isinstance(aborted, RotationResult)
        assert (aborted.ending is Ending.ABORTED) == (aborted.current == 1)
        ends.add(aborted.ending)
    assert ends == {Ending.ABORTED, Ending.REFUSED}


@pytest.mark.parametrize("how", ["drop", "lose"])
def test_who_takes_a_broken_version_back_says_so(how: str) -> None:
    """Though the answer to that was lost."""
    probe = Stage()
    probe.tester.refused = 1
    probe.rotator().rotate()
    taken_back = probe.trouble.names.index("test") + 2
    assert probe.trouble.names[taken_back - 1] == "update"
    stage = Stage()
    stage.tester.refused = 1
    stage.trouble.at, stage.trouble.kind = taken_back, how
    assert stage.rotator().rotate().ending is Ending.FAILED


def test_an_abort_takes_no_later_rotation_back() -> None:
    """What was promoted after it had begun stays, and it says why nothing was taken back."""
    refused = 0
    for at in range(1, MOST):
        race = Race(Stage())
        promoted(race.stage, 1)
        if not race.hold_up("abort", "rotate", at, lapsed=False):
            break
        told = race.told[FIRST]
        assert isinstance(told, RotationResult)
        assert race.stage.store.state.aliases["current"] == 3
        if told.ending is Ending.REFUSED:
            assert "another rotation has begun since" in told.steps
            refused += 1
        else:
            assert (FIRST, 2, "aborted") in race.history()
    assert refused > 1


class Unconditional(FakeSecretStore):
    """A store whose writers compare nothing, as most scripts do."""

    def update(
        self,
        name: SecretName,
        *,
        aliases: Mapping[str, int],
        annotations: Mapping[str, str],
        etag: str,
    ) -> SecretState:
        try:
            return super().update(name, aliases=aliases, annotations=annotations, etag=etag)
        except EtagConflictError:
            now = self.state.etag
            return super().update(name, aliases=aliases, annotations=annotations, etag=now)


def test_the_races_are_found_where_nothing_is_compared() -> None:
    """Control: the same races leave a version in use disabled, or a rotator with an untruth."""
    found = 0
    for at in range(1, MOST):
        stage = Stage()
        promoted(stage, 1)
        stage.store.__class__ = Unconditional
        race = Race(stage)
        if not race.hold_up("abort", "rotate", at, lapsed=False):
            break
        try:
            is_true(race, SECOND)
            is_true(race, FIRST)
        except AssertionError:
            found += 1
    assert found
