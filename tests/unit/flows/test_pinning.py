"""A run keeps the version that it was told by number; a rotation sees that, and leaves it."""

from datetime import timedelta

import pytest

from spanctl.clock import now
from spanctl.credentials.rotation.journal import PINS, pins_from_text
from spanctl.errors import ConflictError, NotPermittedError
from spanctl.flows import pinning
from spanctl.references import parse_reference
from spanctl.resources import DatabaseName
from spanctl.spanner.rpc import Target
from tests.unit.credentials.fakes import NAME, FakeKeyMinter, Stage
from tests.unit.credentials.test_rotation_status import fresh

DATABASE = DatabaseName("p1", "i1", "d1")
SECRET = f"secret:{NAME}"


def held(stage: Stage) -> list[int]:
    return [one.version for one in pins_from_text(stage.store.state.annotations.get(PINS))]


@pytest.mark.parametrize(
    ("reference", "numbers"),
    [
        ("adc", []),
        (SECRET, []),
        (f"{SECRET}@7", [7]),
        (f"impersonate:a@b.c@from:{SECRET}@3", [3]),
        (f"chain:adc,{SECRET}@1,{SECRET}@2,{SECRET}", [1, 2]),
    ],
)
def test_only_numbers_are_pinned(reference: str, numbers: list[int]) -> None:
    """Who follows an alias needs no pin."""
    assert [one.number for one in pinning.numbered(parse_reference(reference))] == numbers


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A secret with a key, reached by whoever resolves its store."""
    made = fresh(FakeKeyMinter)
    monkeypatch.setattr("spanctl.credentials.resolve.resolve_store", lambda *_: made.store)
    return made


def target(reference: str) -> Target:
    return Target(database=DATABASE, credentials=reference)


def test_a_rotation_leaves_what_a_run_pins(stage: Stage) -> None:
    """However late, the version stays enabled while the run renews; it goes when the run ends."""
    pinned = pinning.hold(target(f"{SECRET}@1"), "run-1", pytest.fail)
    assert pinned is not None
    stage.rotator().rotate()
    stage.clock.time = now() + timedelta(minutes=5)
    soon = stage.clock.time
    rotator = stage.rotator()
    rotator.policy = type(rotator.policy)(drain=timedelta(0))
    rotator.tidy()
    assert held(stage) == [1]
    assert stage.store.states[0].value == "enabled"
    pinned.release()
    assert held(stage) == []
    stage.clock.time = soon + timedelta(hours=2)
    stage.rotator().tidy()
    assert stage.store.states[0].value == "disabled"


def test_two_executors_of_a_run_hold_for_themselves(stage: Stage) -> None:
    """The end of one is not the end of the other."""
    first = pinning.hold(target(f"{SECRET}@1"), "run-1", pytest.fail)
    second = pinning.hold(target(f"{SECRET}@1"), "run-1", pytest.fail)
    assert held(stage) == [1, 1]
    assert first
    assert second
    first.release()
    assert held(stage) == [1]
    second.release()
    assert held(stage) == []


def test_a_version_that_is_being_disabled_is_refused(stage: Stage) -> None:
    """The run fails before its first write, and is told what to use."""
    stage.rotator().rotate()
    stage.clock.forward(hours=2)
    stage.rotator().tidy()
    with pytest.raises(ConflictError, match="is being disabled"):
        pinning.hold(target(f"{SECRET}@1"), "run-1", pytest.fail)


def test_who_may_not_pin_is_warned(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without the role goes on, and its log says what may happen."""

    def refuse(*_: object, **__: object) -> None:
        msg = "no role"
        raise NotPermittedError(msg)

    monkeypatch.setattr(stage.store, "update", refuse)
    told: list[str] = []
    assert pinning.hold(target(f"{SECRET}@1"), "run-1", told.append) is None
    assert told == ["a rotation may end the run's credentials under it: no role"]


def test_an_emulator_and_an_alias_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of Secret Manager for a run that pins nothing."""
    monkeypatch.setattr("spanctl.credentials.resolve.resolve_store", pytest.fail)
    assert pinning.hold(target(SECRET), "run-1", pytest.fail) is None
    emulated = Target(database=DATABASE, emulator_host="h:1", credentials=f"{SECRET}@1")
    assert pinning.hold(emulated, "run-1", pytest.fail) is None
