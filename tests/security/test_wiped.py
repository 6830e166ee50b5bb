"""What was destroyed is in no file of Secret Manager's stand-in, however it went and was ended."""

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from spanctl.local.standins.secretrows import State
from spanctl.local.standins.secretstore import Secrets
from spanctl.local.standins.status import RefusedError
from spanctl.local.standins.store import Store

DAY: Final = timedelta(days=1)
NEEDLE: Final = b"needle-in-the-haystack"


class Kept:
    """A store of secrets in a folder of its own, under a clock that the test moves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.open()

    def open(self) -> None:
        self.store = Store(self.folder / "identity.db", lambda: self.at)
        self.secrets = Secrets(self.store, "projects/1")

    def set_state(self, number: int, state: State) -> None:
        self.secrets.set_state("s", str(number), "", state)

    def run(self, statement: str) -> None:
        with self.store.reading() as db:
            db.execute(statement)

    def holding(self, needle: bytes = NEEDLE) -> set[str]:
        return {path.name for path in self.folder.iterdir() if needle in path.read_bytes()}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """A secret with one version."""
    folder = tmp_path / "identity"
    folder.mkdir()
    made = Kept(folder)
    made.secrets.create("s", b"", {}, {}, None)
    made.secrets.add("s", NEEDLE * 500, None)  # several pages
    yield made
    made.store.close()


def destroyed(kept: Kept) -> None:
    kept.set_state(1, State.DESTROYED)


def deleted(kept: Kept) -> None:
    kept.secrets.delete("s", "")


def scheduled(kept: Kept) -> None:
    kept.secrets.update("s", "", {"destroy_delay": DAY})
    kept.set_state(1, State.DESTROYED)
    assert kept.holding(), "until then it can be saved"
    kept.at += DAY


def looked_at(kept: Kept) -> None:
    scheduled(kept)
    assert kept.secrets.version("s", "1").state is State.DESTROYED


def refused(kept: Kept) -> None:
    """Too late to save it; what refuses takes nothing of the destruction back."""
    scheduled(kept)
    with pytest.raises(RefusedError, match="DESTROYED"):
        kept.set_state(1, State.ENABLED)


def started_anew(kept: Kept) -> None:
    """Nobody asks for that secret."""
    scheduled(kept)
    kept.store.close()
    kept.open()


@pytest.mark.parametrize("end", [destroyed, deleted, looked_at, refused, started_anew])
def test_nothing_is_left(kept: Kept, end: Callable[[Kept], None]) -> None:
    """Neither in the file nor in what SQLite keeps beside it, while the stand-in goes on."""
    assert kept.holding()
    end(kept)
    assert kept.holding() == set()


def test_sqlite_by_itself_leaves_it(kept: Kept) -> None:
    """Control: in the log, and after that in pages that are free."""
    kept.run("PRAGMA secure_delete = OFF")
    kept.run("UPDATE versions SET payload = NULL")
    assert kept.holding() == {"identity.db-wal"}
    kept.run("PRAGMA wal_checkpoint(TRUNCATE)")
    assert kept.holding() == {"identity.db"}


def test_killed_anywhere_it_is_there_or_gone(kept: Kept, tmp_path: Path) -> None:
    """A copy is what a kill leaves: once started anew, no file holds what is called destroyed."""
    copies = []

    def copy(_: str) -> None:
        copies.append(shutil.copytree(kept.folder, tmp_path / f"killed-{len(copies)}"))

    with kept.store.reading() as db:
        db.set_trace_callback(copy)
        kept.set_state(1, State.DESTROYED)
        db.set_trace_callback(None)
    seen = []
    for folder in copies:
        killed = Kept(folder)
        gone = killed.secrets.version("s", "1").state is State.DESTROYED
        assert bool(killed.holding()) is not gone
        seen.append(gone)
        killed.store.close()
    assert (seen[0], seen[-1]) == (False, True)


@pytest.mark.parametrize("is_wiping", [True, False], ids=["ours", "the control"])
def test_pages_that_are_split_and_joined_keep_no_copy(kept: Kept, is_wiping: bool) -> None:
    """Versions of any size come, change and go in any order."""
    kept.run(f"PRAGMA secure_delete = {is_wiping:d}")
    chosen = random.Random(7)  # noqa: S311 - the same each time
    living: dict[int, tuple[bytes, bytes]] = {}
    gone: list[bytes] = []
    for _ in range(120):
        number = chosen.choice([*living, 0])
        if number and chosen.random() < 0.5:
            kept.set_state(number, State.DESTROYED)
            gone += living.pop(number)
            continue
        if number:
            kept.set_state(number, chosen.choice([State.DISABLED, State.ENABLED]))
        ends = chosen.randbytes(12), chosen.randbytes(12)
        between = chosen.randbytes(chosen.choice([10, 400, 900, 1500, 3500, 20_000]))
        living[kept.secrets.add("s", ends[0] + between + ends[1], None).number] = ends
    assert gone
    assert all(kept.holding(end) for ends in living.values() for end in ends)
    assert any(kept.holding(end) for end in gone) is not is_wiping
