"""The file of switches."""

import stat
from pathlib import Path

import pytest

from spanctl.errors import ConfigurationError
from spanctl.local.standins.switches import Switches


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Every switch survives the file, which is for its owner."""
    path = tmp_path / "switches.json"
    assert Switches.load(path) == Switches()
    thrown = Switches(
        aliases=1.5, latest=2, states=3, keys=4, corrupt=True, lose=("AddSecretVersion",)
    )
    thrown.save(path)
    assert Switches.load(path) == thrown
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", "{", '{"alias": 1}', '"x"'])
def test_a_damaged_file_is_no_switch(tmp_path: Path, text: str) -> None:
    """It is an error, not silently the real service."""
    path = tmp_path / "switches.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        Switches.load(path)
