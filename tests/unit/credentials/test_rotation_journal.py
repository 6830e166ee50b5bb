"""What rotations remember survives its text form; who is dead is known, not guessed."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from spanctl.credentials.rotation.journal import (
    MOST_BYTES,
    Done,
    Journal,
    Phase,
    Pin,
    Retiree,
    Rotation,
    Stage,
    Sweep,
    check_size,
    pins_from_text,
    pins_to_text,
)
from spanctl.credentials.rotation.owner import is_gone, this_one, this_owner
from spanctl.errors import ConfigurationError, ConflictError

T = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
ROTATION = Rotation(
    rotation_id="r",
    owner="o",
    who="ada",
    until=T,
    started=T,
    phase=Phase.CREATED,
    old=1,
    before=None,
    base=1,
    checksums=(1, 4_294_967_295),
    keys=("", "k"),
    new=2,
    key="k",
    old_key="j",
    old_expiry=T + timedelta(hours=1),
)
FULL = Journal(
    ROTATION,
    (Retiree(1, T, Stage.DISABLING, "k"), Retiree(0, T)),
    (Sweep(7, 1, T, "k"),),
    (Done(T, "ada", None, "aborted"),),
)


@pytest.mark.parametrize("journal", [Journal(), FULL, Journal(history=FULL.history)])
def test_a_journal_comes_back_as_it_was_written(journal: Journal) -> None:
    """Every field survives the annotation."""
    assert Journal.from_text(journal.to_text()) == journal


def test_no_annotation_is_an_empty_journal() -> None:
    """A secret that was never rotated has nothing to remember."""
    assert Journal.from_text(None) == Journal()
    assert pins_from_text(None) == ()


@pytest.mark.parametrize("text", ["{", "[]", "7", '"x"', "{}", '{"rotation":{}}'])
def test_what_is_no_journal_is_refused(text: str) -> None:
    """Nothing is guessed from a damaged annotation."""
    with pytest.raises(ConfigurationError):
        Journal.from_text(text)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a":1}', '{"a":[1]}', '{"a":["x","y"]}'])
def test_what_are_no_pins_is_refused(text: str) -> None:
    """Pins that can't be read may not be ignored: they protect running flows."""
    with pytest.raises(ConfigurationError):
        pins_from_text(text)


def test_pins_come_back_as_they_were_written() -> None:
    """Holder, version and time survive the annotation."""
    pins = (Pin("run-1", 3, T), Pin("run-2", 4, T))
    assert pins_from_text(pins_to_text(pins)) == pins


def test_the_history_is_short_and_the_journal_bounded() -> None:
    """Old entries go; annotations that Secret Manager would refuse are not sent."""
    journal = Journal()
    for number in range(30):
        journal = Journal(history=journal.remembering(Done(T, "ada", number, "promoted")))
    assert [done.version for done in journal.history] == list(range(20, 30))
    with pytest.raises(ConflictError, match="annotations"):
        check_size({"a": "x" * MOST_BYTES})


def test_a_dead_process_is_gone_and_others_are_not() -> None:
    """Only one of this boot and pid namespace that has ended is; what can't be known isn't."""
    mine = this_owner()
    assert not is_gone(mine)
    assert mine != this_owner()
    boot, namespace, started, pid, chance = mine.split("/")
    assert is_gone(f"{boot}/{namespace}/{int(started) - 1}/{pid}/{chance}")
    elsewhere = f"{boot}/{int(namespace) + 1}/{int(started) - 1}/{pid}/{chance}"
    rebooted = f"other-boot/{namespace}/{started}/{pid}/{chance}"
    older = f"{boot}/{pid}/{int(started) - 1}/{chance}"
    for unknown in ("", "x", elsewhere, rebooted, older, "a/b/c"):
        assert not is_gone(unknown)
    code = "from spanctl.credentials.rotation.owner import this_owner; print(this_owner())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert is_gone(done.stdout.strip())
    assert str(os.getpid()) in this_one()
