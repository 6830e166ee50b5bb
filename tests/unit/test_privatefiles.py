"""Files for their owner alone, written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from spanctl.privatefiles import write_private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def test_it_is_the_owners_alone(path: Path) -> None:
    """Whatever the mask is, and whatever mode was there before."""
    path.write_text("before")
    path.chmod(0o666)
    before = os.umask(0)
    try:
        write_private(path, b"now")
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"now", 0o600)
    assert [one.name for one in path.parent.iterdir()] == ["file"]


def test_a_link_is_replaced_and_not_followed(path: Path) -> None:
    """Nor is one that somebody has put where the writing happens."""
    there = path.with_name("there")
    there.write_text("kept")
    path.symlink_to(there)
    path.with_name(f".file.{os.getpid()}").symlink_to(there)
    write_private(path, b"now")
    assert (there.read_text(), path.is_symlink(), path.read_bytes()) == ("kept", False, b"now")


def test_a_write_that_fails_leaves_what_was_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing beside it."""
    path.write_text("before")

    def full(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_private(path, b"now")
    assert [(one.name, one.read_text()) for one in path.parent.iterdir()] == [("file", "before")]
