"""A round over several secrets: each by itself, and only what is due when that is asked."""

from datetime import timedelta

import pytest

from spanctl.clock import now
from spanctl.credentials.rotation import rounds
from spanctl.credentials.rotation.pins import pin
from spanctl.credentials.rotation.rounds import Turn
from spanctl.credentials.rotation.status import read_status
from spanctl.errors import NotPermittedError
from tests.unit.credentials.fakes import NAME, FakeKeyMinter, Stage
from tests.unit.credentials.test_rotation_status import fresh


def due(stage: Stage, **how: bool) -> Turn:
    (turn,) = rounds.run(stage.store, [NAME], lambda _: stage.rotator(), due_only=True, **how)
    return turn


def test_what_lives_long_is_left_alone() -> None:
    """Nothing is minted for a credential that is not due."""
    stage = fresh()
    turn = due(stage)
    assert (turn.outcome, turn.version, turn.error) == (rounds.NOT_DUE, None, None)
    assert len(stage.store.payloads) == 1


def test_what_expires_soon_is_rotated_once() -> None:
    """It is told why, and the next round leaves the new one alone."""
    stage = fresh()
    status = read_status(stage.store, NAME)
    assert status.expiry is not None
    stage.clock.time = status.expiry - timedelta(minutes=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spanctl.credentials.rotation.status.now", stage.clock)
        turn = due(stage)
        assert (turn.outcome, turn.version) == ("promoted", 2)
        assert turn.why.startswith("it expires at")
        assert due(stage).outcome == rounds.NOT_DUE


def test_old_versions_are_ended_without_a_new_one() -> None:
    """Once the drain is over a round disables the old version, and mints nothing."""
    stage = fresh(FakeKeyMinter)
    stage.rotator().rotate()
    stage.clock.forward(hours=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spanctl.credentials.rotation.status.now", stage.clock)
        turn = due(stage)
    assert (turn.why, turn.version, turn.current) == ("old versions are to be ended", None, 2)
    assert [state.value for state in stage.store.states] == ["disabled", "enabled"]


def test_a_pinned_version_outlives_every_round() -> None:
    """While a run holds a pin its version stays; when that lapses the next round ends it."""
    stage = fresh(FakeKeyMinter)
    stage.rotator().rotate()
    stage.clock.forward(hours=2)
    until = max(stage.clock(), now()) + timedelta(hours=1)
    pin(stage.store, NAME, "run-1", 1, until)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spanctl.credentials.rotation.status.now", stage.clock)
        assert due(stage).outcome == rounds.NOT_DUE
        assert stage.store.states[0].value == "enabled"
        stage.clock.forward(hours=4)
        assert due(stage).current == 2
    assert stage.store.states[0].value == "disabled"


def test_an_error_is_one_secrets_own() -> None:
    """The others have their turn."""
    stage = fresh()

    def rotator(_: object) -> object:
        msg = "no role"
        raise NotPermittedError(msg)

    told = list(rounds.run(stage.store, [NAME, NAME], rotator))  # type: ignore[arg-type]
    assert [turn.outcome for turn in told] == [rounds.FAILED] * 2
    assert all(isinstance(turn.error, NotPermittedError) for turn in told)
