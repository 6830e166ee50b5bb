"""The life of secrets and versions, under a clock that the test moves."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spanctl.local.standins.secretrows import State
from spanctl.local.standins.secretstore import Secrets
from spanctl.local.standins.status import RefusedError, Status
from spanctl.local.standins.store import Store
from spanctl.local.standins.switches import Switches

DAY = timedelta(days=1)


class World:
    """A store, a clock and switches."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.switches = Switches()
        self.open()

    def open(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
        self.store = Store(self.path, lambda: self.at)
        self.secrets = Secrets(self.store, "projects/1", lambda: self.switches)

    def create(self, delay: timedelta | None = None) -> None:
        self.secrets.create("s", b"", {}, {}, delay)

    def add(self, data: bytes) -> int:
        self.at += timedelta(seconds=1)
        return self.secrets.add("s", data, None).number

    def alias(self, **aliases: int) -> None:
        self.at += timedelta(seconds=1)
        self.secrets.update("s", "", {"aliases": aliases})

    def accessed(self, which: str) -> bytes | Status:
        try:
            return self.secrets.access("s", which)[1]
        except RefusedError as error:
            return error.status


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Yield a new store with one secret."""
    world = World(tmp_path / "identity.db")
    world.create()
    yield world
    world.store.close()


def test_an_alias_lags_by_what_the_switch_says(world: World) -> None:
    """It resolves to what it was then, step by step, until the lag is over."""
    for data in (b"1", b"2"):
        world.add(data)
    world.alias(current=1)
    world.at += timedelta(seconds=100)
    world.alias(current=2)
    world.switches = Switches(aliases=60)
    world.at += timedelta(seconds=59)
    assert world.accessed("current") == b"1"
    world.at += timedelta(seconds=1)
    assert world.accessed("current") == b"2"


def test_a_removed_alias_is_seen_while_it_lags(world: World) -> None:
    """Taking an alias away takes its time too."""
    world.add(b"1")
    world.alias(pending=1)
    world.at += timedelta(seconds=100)
    world.alias()
    assert world.accessed("pending") is Status.NOT_FOUND
    world.switches = Switches(aliases=60)
    assert world.accessed("pending") == b"1"


def test_latest_lags_and_numbers_do_not(world: World) -> None:
    """Access by number is strongly consistent, whatever lags."""
    world.add(b"1")
    world.at += timedelta(seconds=100)
    world.add(b"2")
    world.switches = Switches(latest=60, aliases=60, states=60)
    assert world.accessed("latest") == b"1"
    assert world.accessed("2") == b"2"
    world.at += timedelta(seconds=60)
    assert world.accessed("latest") == b"2"


def test_a_disabled_version_is_accessed_until_the_lag_is_over(world: World) -> None:
    """Disabling and enabling both take their time at access, not at get."""
    world.add(b"1")
    world.at += timedelta(seconds=100)
    world.secrets.set_state("s", "1", "", State.DISABLED)
    world.switches = Switches(states=60)
    assert world.secrets.version("s", "1").state is State.DISABLED
    assert world.accessed("1") == b"1"
    world.at += timedelta(seconds=60)
    assert world.accessed("1") is Status.FAILED_PRECONDITION
    world.secrets.set_state("s", "1", "", State.ENABLED)
    assert world.accessed("1") is Status.FAILED_PRECONDITION
    world.at += timedelta(seconds=60)
    assert world.accessed("1") == b"1"


def test_what_is_destroyed_is_gone_at_once(world: World) -> None:
    """No lag brings a payload back that is no longer there."""
    world.add(b"1")
    world.switches = Switches(states=60)
    world.secrets.set_state("s", "1", "", State.DESTROYED)
    assert world.accessed("1") is Status.FAILED_PRECONDITION


def test_delayed_destruction_comes_due(world: World) -> None:
    """After the delay the version is destroyed as of that moment, and its payload is gone."""
    world.add(b"payload-to-be-destroyed")
    world.secrets.update("s", "", {"destroy_delay": DAY})
    waiting = world.secrets.set_state("s", "1", "", State.DESTROYED)
    assert waiting.state is State.DISABLED
    assert waiting.scheduled == world.at + DAY
    world.at += DAY - timedelta(seconds=1)
    assert world.secrets.version("s", "1").state is State.DISABLED
    world.at += timedelta(days=10)
    gone = world.secrets.version("s", "1")
    assert (gone.state, gone.destroyed) == (State.DESTROYED, waiting.scheduled)
    assert gone.scheduled is None
    with pytest.raises(RefusedError, match="DESTROYED"):
        world.secrets.set_state("s", "1", "", State.ENABLED)
    with sqlite3.connect(world.path) as db:
        assert db.execute("SELECT payload FROM versions").fetchall() == [(None,)]
    db.close()


@pytest.mark.parametrize("state", [State.ENABLED, State.DISABLED])
def test_a_version_is_saved_before_it_is_destroyed(world: World, state: State) -> None:
    """Enabling or disabling what is scheduled for destruction ends the schedule."""
    world.add(b"1")
    world.secrets.update("s", "", {"destroy_delay": DAY})
    world.secrets.set_state("s", "1", "", State.DESTROYED)
    world.secrets.set_state("s", "1", "", state)
    world.at += 10 * DAY
    assert world.secrets.version("s", "1").state is state


def test_numbers_are_never_used_again(world: World) -> None:
    """After a destruction the next version has the next number."""
    world.add(b"1")
    world.secrets.set_state("s", "1", "", State.DESTROYED)
    assert world.add(b"2") == 2


def test_a_new_secret_of_an_old_name_has_nothing_of_it(world: World) -> None:
    """Versions, aliases, labels and policies' history don't come back."""
    world.add(b"1")
    world.alias(current=1)
    world.secrets.delete("s", "")
    world.create()
    world.switches = Switches(aliases=3600, latest=3600)
    assert [world.accessed(which) for which in ("1", "current", "latest")] == [Status.NOT_FOUND] * 3
    assert world.secrets.get("s").aliases == {}


def test_a_refused_update_leaves_nothing_half_done(world: World) -> None:
    """Fields before the one that is refused aren't written either, and the etag stays."""
    before = world.secrets.get("s")
    with pytest.raises(RefusedError):
        world.secrets.update("s", "", {"labels": {"a": "1"}, "aliases": {"current": 9}})
    assert world.secrets.get("s") == before


def test_another_opening_finds_everything(world: World) -> None:
    """Another process on the same file sees all that was answered."""
    world.add(b"1")
    world.alias(current=1)
    world.secrets.update("s", "", {"annotations": {"journal": "x"}})
    world.open()
    assert world.accessed("current") == b"1"
    assert world.secrets.get("s").annotations == {"journal": "x"}


def test_another_version_s_file_is_refused(world: World) -> None:
    """A file of an unknown schema is not touched."""
    world.store.close()
    with sqlite3.connect(world.path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        world.open()


@pytest.mark.parametrize("which", ["0", "2", "01", "01x", "", "9" * 30, "NEW", "²"])
def test_versions_that_are_not_there(world: World, which: str) -> None:
    """Any other name of a version is NOT_FOUND, however odd."""
    world.add(b"1")
    assert world.accessed(which) is Status.NOT_FOUND
