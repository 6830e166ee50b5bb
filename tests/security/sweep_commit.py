"""Whatever raises while a transaction commits, what is told of it is what the database says."""

from collections.abc import Iterator

import pytest

from spanctl.spanner import attempt, protocol, transaction
from spanctl.spanner.client import Database
from spanctl.spanner.protocol import Execution
from spanctl.spanner.run import Run
from tests.flows.bank import Bank
from tests.security.tracers import Step, Thrown, family, sweep

pytestmark = pytest.mark.emulator

_FILES = {attempt.__file__, protocol.__file__, transaction.__file__}
_FIND = "SELECT id FROM events WHERE id = @id"


def interrupted(bank: Bank) -> Iterator[tuple[Step, bool, str]]:
    """Yield each step that was raised into, whether the row is there, and what is noted."""
    names: list[str] = []
    with Database(bank.target) as database:
        _ = database.ledger

        def pay() -> None:
            names.append(f"event-{len(names)}")
            name = names[-1]
            Run(database, f"job-{name}").step(
                "plant", lambda txn: txn.insert("events", ["id"], [[name]])
            )

        for step, ended in sweep(pay, "settrace", _FILES.__contains__):
            assert isinstance(ended.error, Thrown), step
            is_there = bool(list(bank.database.query(_FIND, {"id": names[-1]})))
            notes = [getattr(one, "__notes__", []) for one in family(ended.error)]
            yield step, is_there, " ".join(note for several in notes for note in several)


def test_the_outcome_that_is_told(bank: Bank) -> None:
    """A tracer raises at each line of transaction and Commit: a row that is there is noted so."""
    told = set()
    for step, is_there, notes in interrupted(bank):
        assert (": COMMITTED" in notes) is is_there, (step, notes)
        told.add(is_there)
    assert told == {True, False}


def test_the_control(bank: Bank, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that note, rows are there of which nothing is told."""
    monkeypatch.setattr(Execution, "_note", lambda *_: None)
    assert any(is_there and not notes for _, is_there, notes in interrupted(bank))
