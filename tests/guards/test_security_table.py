"""What SECURITY.md says that a test shows, a test shows."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TABLE = (TESTS.parent / "docs" / "SECURITY.md").read_text(encoding="utf-8")
_HEADING = "| attacker | asset | what stands in the way | the test |"
_SHOWN = re.compile(r"`([a-z_/]+\.py)`")


def rows() -> list[list[str]]:
    """Return the cells of the table of attackers."""
    lines = TABLE[TABLE.index(_HEADING) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_test_that_is_named_is_there() -> None:
    """A file that was moved takes the table with it."""
    named = {name for row in rows() for name in _SHOWN.findall(row[3])}
    assert named
    assert {name for name in named if not (TESTS / name).is_file()} == set()


def test_whatever_stands_in_the_way_is_shown() -> None:
    """Where nothing does, the table says so."""
    for attacker, asset, way, test in rows():
        assert way, (attacker, asset)
        assert _SHOWN.search(test) or "**nothing**" in way, asset


def test_every_attack_is_in_the_table() -> None:
    """A new file of attacks says whose they are."""
    attacks = {f"security/{one.name}" for one in (TESTS / "security").glob("test_*.py")}
    assert attacks - {name for row in rows() for name in _SHOWN.findall(row[3])} == set()
