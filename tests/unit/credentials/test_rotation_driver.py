"""The driver does what the machine decides, whatever happens to its requests and to itself."""

from dataclasses import replace
from datetime import timedelta

import pytest

from spanctl.credentials.rotation.actions import Ending
from spanctl.credentials.rotation.journal import JOURNAL, Journal
from spanctl.credentials.rotation.pins import pin, unpin
from spanctl.credentials.rotation.ports import SecretState, VersionState
from spanctl.errors import ConfigurationError, ConflictError, UnreachableError
from tests.unit.credentials.fakes import (
    NAME,
    FakeKeyMinter,
    FakeTokenMinter,
    Killed,
    Stage,
)

KINDS = [FakeTokenMinter, FakeKeyMinter]
E_ = VersionState.ENABLED


def journal(stage: Stage) -> Journal:
    return Journal.from_text(stage.store.state.annotations.get(JOURNAL))


def calls_of_a_rotation(kind: type[FakeTokenMinter]) -> int:
    stage = Stage(kind)
    stage.rotator().rotate()
    return stage.trouble.calls


def settle(stage: Stage) -> None:
    """Let all that is due on old versions be done, today and tomorrow."""
    for _ in range(3):
        stage.clock.forward(hours=25)
        stage.trouble.watch = lambda: None  # the tokens of a fake are dead by then
        stage.rotator().tidy()


def assert_only_current_is_left(stage: Stage) -> None:
    current = stage.store.state.aliases["current"]
    settle(stage)
    for number, state in enumerate(stage.store.states, 1):
        assert (state is E_) == (number == current), number
    assert set(stage.store.state.aliases) == {"current"}
    assert not journal(stage).retirees
    assert not journal(stage).sweeps


@pytest.mark.parametrize("kind", KINDS)
def test_a_rotation_puts_a_tested_version_in_the_place_of_the_old(
    kind: type[FakeTokenMinter],
) -> None:
    """Current and previous move together; the old version stays for those who still hold it."""
    stage = Stage(kind)
    result = stage.rotator().rotate()
    assert result.ending is Ending.PROMOTED
    assert (result.version, result.current) == (2, 2)
    assert stage.store.state.aliases == {"current": 2, "previous": 1}
    assert stage.store.states == [E_, E_]
    assert stage.tester.tested == 1
    assert result.until is not None
    assert result.until >= stage.clock() + timedelta(minutes=59)


def test_an_old_version_is_disabled_after_the_drain_and_destroyed_after_a_delay() -> None:
    """No step on an old version comes before its time, and each comes."""
    stage = Stage()
    stage.rotator().rotate()
    stage.trouble.watch = lambda: None
    stage.clock.forward(minutes=50)
    assert stage.rotator().tidy().until is not None
    assert stage.store.states[0] is E_
    stage.clock.forward(minutes=11)
    stage.rotator().tidy()
    assert stage.store.states[0] is VersionState.DISABLED
    assert stage.store.state.aliases == {"current": 2}
    stage.clock.forward(hours=23)
    stage.rotator().tidy()
    assert stage.store.states[0] is VersionState.DISABLED
    stage.clock.forward(hours=2)
    assert stage.rotator().tidy().until is None
    assert stage.store.states[0] is VersionState.DESTROYED


def test_the_drain_is_at_least_the_life_of_the_old_token() -> None:
    """A policy's short drain doesn't disable what a token of an hour still needs."""
    stage = Stage()
    rotator = stage.rotator()
    rotator.policy = replace(rotator.policy, drain=timedelta(seconds=1))
    assert rotator.rotate().until == stage.clock() + timedelta(hours=1)


def test_waiting_sees_a_rotation_through() -> None:
    """With a time to wait until, one call drains, disables and destroys."""
    stage = Stage()
    stage.trouble.watch = lambda: None
    end = stage.clock() + timedelta(days=3)
    result = stage.rotator().rotate(wait_until=end)
    assert result.until is None
    assert stage.store.states == [VersionState.DESTROYED, E_]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("then", ["resume", "rotate"])
def test_killed_anywhere_the_next_one_converges(
    kind: type[FakeTokenMinter], how: str, then: str
) -> None:
    """For each call: killed there, the next process ends the rotation; current always works."""
    for at in range(1, calls_of_a_rotation(kind) + 1):
        stage = Stage(kind)
        stage.trouble.at, stage.trouble.kind = at, how
        with pytest.raises(Killed):
            stage.rotator().rotate()
        stage.revive()
        getattr(stage.rotator("bea"), then)()
        rotation = journal(stage).rotation
        assert rotation is None or rotation.phase == "promoted"
        assert "pending" not in stage.store.state.aliases
        assert_only_current_is_left(stage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["before", "after"])
def test_killed_anywhere_an_abort_goes_back(kind: type[FakeTokenMinter], how: str) -> None:
    """For each call: killed there, an abort leaves version 1 current and nothing else behind."""
    for at in range(1, calls_of_a_rotation(kind) + 1):
        stage = Stage(kind)
        stage.trouble.at, stage.trouble.kind = at, how
        with pytest.raises(Killed):
            stage.rotator().rotate()
        stage.revive()
        result = stage.rotator("bea").abort()
        assert result.ending in {Ending.ABORTED, Ending.NOTHING}
        assert stage.store.state.aliases == {"current": 1}
        assert_only_current_is_left(stage)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["drop", "lose"])
def test_a_lost_answer_anywhere_is_no_harm(kind: type[FakeTokenMinter], how: str) -> None:
    """For each call: its answer lost, with or without effect, one version is promoted."""
    for at in range(1, calls_of_a_rotation(kind) + 1):
        stage = Stage(kind)
        stage.trouble.at, stage.trouble.kind = at, how
        try:
            stage.rotator().rotate()
        except (ConflictError, UnreachableError):
            stage.revive()
            stage.rotator().resume()
        assert "pending" not in stage.store.state.aliases
        assert_only_current_is_left(stage)


def test_a_lost_add_is_found_by_its_checksum_and_not_sent_again() -> None:
    """The version that the server made is adopted: no duplicate, even if it isn't listed yet."""
    for unlisted in (0, 1):
        stage = Stage()
        stage.trouble.kind = "lose"
        stage.store.unlisted = unlisted
        stage.trouble.at = 1 + calls_before_add()
        result = stage.rotator().rotate()
        assert result.version == 2
        assert stage.trouble.names.count("add") == 1
        assert len(stage.store.payloads) == 2


def calls_before_add() -> int:
    stage = Stage()
    stage.rotator().rotate()
    return stage.trouble.names.index("add")


def test_two_at_once_are_kept_apart_by_name() -> None:
    """While one works, the other is told who it is, and changes nothing."""
    stage = Stage()
    first = stage.rotator("ada")
    told: list[ConflictError] = []

    def intrude(step: str) -> None:
        if step.startswith("tested"):
            with pytest.raises(ConflictError, match="ada is rotating") as caught:
                stage.rotator("bea").rotate()
            told.append(caught.value)

    first.report = intrude
    assert first.rotate().version == 2
    assert len(told) == 1
    assert "--resume" in told[0].hint
    assert len(stage.store.payloads) == 2


def test_a_failed_test_takes_the_new_version_back() -> None:
    """What doesn't work is never promoted: the old version stays, the new one goes."""
    stage = Stage()
    stage.tester.refused = 1
    result = stage.rotator().rotate()
    assert result.ending is Ending.FAILED
    assert stage.store.state.aliases == {"current": 1}
    assert stage.store.states[1] is VersionState.DISABLED


def test_a_new_key_may_need_a_minute_to_work() -> None:
    """Within the settling time a refusal is not final."""
    stage = Stage(FakeKeyMinter)
    stage.tester.refused = 60
    rotator = stage.rotator()
    rotator.settle = timedelta(seconds=90)
    assert rotator.rotate().ending is Ending.PROMOTED


def test_damaged_payloads_are_read_again_and_never_promoted() -> None:
    """A payload that arrives damaged once is read again; one that stays damaged fails its test."""
    stage = Stage()
    rotator = stage.rotator()
    rotator.report = lambda step: setattr(stage.store, "corrupt", int("created" in step) * 2)
    assert rotator.rotate().version == 2
    rotator = stage.rotator()
    rotator.report = lambda step: setattr(stage.store, "corrupt", int("created" in step) * 9)
    assert rotator.rotate().ending is Ending.FAILED
    assert stage.store.state.aliases["current"] == 2


def test_keys_end_with_their_versions_and_no_other() -> None:
    """Old keys are disabled with their version and deleted with it; the current one lives."""
    stage = Stage(FakeKeyMinter)
    assert isinstance(stage.minter, FakeKeyMinter)
    stage.rotator().rotate()
    stage.clock.forward(hours=2)
    stage.rotator().tidy()
    assert stage.minter.keys == {"key1": "disabled", "key2": "alive"}
    assert_only_current_is_left(stage)
    assert stage.minter.keys == {"key1": "deleted", "key2": "alive"}


def test_a_pinned_version_outlives_its_drain() -> None:
    """What a running flow pins is disabled only when it lets go; afterwards it can't be pinned."""
    stage = Stage()
    stage.trouble.watch = lambda: None
    pin(stage.store, NAME, "run-1", 1, stage.clock() + timedelta(days=3650))
    stage.rotator().rotate()
    stage.clock.forward(hours=30)
    stage.rotator().tidy()
    assert stage.store.states[0] is E_
    unpin(stage.store, NAME, "run-1")
    stage.rotator().tidy()
    assert stage.store.states[0] is VersionState.DISABLED
    with pytest.raises(ConflictError, match="can't be pinned"):
        pin(stage.store, NAME, "run-2", 1, stage.clock() + timedelta(days=3650))


def test_a_pin_that_comes_first_wins_over_the_disabling() -> None:
    """The pin and the step that begins to disable are compared by one etag."""
    stage = Stage()
    stage.trouble.watch = lambda: None
    stage.rotator().rotate()
    stage.clock.forward(hours=2)
    update = stage.store.update
    pinned = []

    def late(*args: object, **kwargs: object) -> SecretState:
        if not pinned:
            pinned.append(True)
            pin(stage.store, NAME, "run-1", 1, stage.clock() + timedelta(days=3650))
        return update(*args, **kwargs)  # type: ignore[arg-type]

    stage.store.update = late  # type: ignore[method-assign]
    stage.rotator().tidy()
    assert stage.store.states[0] is E_


def test_going_back_is_refused_once_the_old_version_is_disabled() -> None:
    """An abort moves current back only to what works; later it says that it is too late."""
    stage = Stage()
    stage.rotator().rotate()
    assert stage.rotator().abort().ending is Ending.ABORTED
    assert stage.store.state.aliases == {"current": 1}
    stage.rotator().rotate()
    stage.trouble.watch = lambda: None
    stage.clock.forward(hours=2)
    stage.rotator().tidy()
    result = stage.rotator().abort()
    assert result.ending is Ending.REFUSED
    assert "too late" in result.steps[-1]


def test_fifty_rotations_in_a_row_fit_the_journal() -> None:
    """Versions that drain don't hold up the next rotation, nor does the journal overflow."""
    stage = Stage()
    for number in range(50):
        assert stage.rotator().rotate().version == number + 2
    assert stage.store.state.aliases == {"current": 51, "previous": 50}
    assert_only_current_is_left(stage)


def test_a_refused_mint_leaves_no_claim_behind() -> None:
    """An error on the way lets the next rotator begin at once."""
    stage = Stage()

    def refuse() -> None:
        raise UnreachableError(str(NAME))

    broken = stage.rotator()
    stage.minter.make = refuse  # type: ignore[assignment, method-assign]
    with pytest.raises(UnreachableError):
        broken.rotate()
    del stage.minter.make  # type: ignore[attr-defined]
    assert stage.rotator("bea").rotate().version == 2


def test_a_damaged_journal_is_said_to_be_one() -> None:
    """Nothing is guessed from a journal that can't be read."""
    stage = Stage()
    stage.store.state = replace(stage.store.state, annotations={JOURNAL: "{"})
    with pytest.raises(ConfigurationError, match="no journal"):
        stage.rotator().rotate()


def test_the_first_rotation_of_an_empty_secret_just_fills_it() -> None:
    """A secret without versions gets its first one, and nothing is drained."""
    stage = Stage()
    stage.store.payloads.clear()
    stage.store.states.clear()
    stage.store.state = SecretState(etag="e0")
    stage.trouble.watch = lambda: None
    result = stage.rotator().rotate()
    assert stage.store.state.aliases == {"current": 1}
    assert result.until is None


def test_giving_up_lets_the_next_one_go_on_at_once() -> None:
    """If no new version is ever answered for, the rotator stops, and another one ends it."""
    stage = Stage()

    def deaf(*_: object) -> int:
        raise UnreachableError(str(NAME))

    stage.store.add = deaf  # type: ignore[method-assign]
    assert stage.rotator().rotate().ending is Ending.REFUSED
    del stage.store.add  # type: ignore[method-assign]
    assert stage.rotator("bea").resume().version == 2
    assert_only_current_is_left(stage)
