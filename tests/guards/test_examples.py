"""Every command shows how it is used, in words that it takes."""

import shlex

import pytest

from spanctl_cli.main import build
from spanctl_cli.tree import PROGRAM, Place, examples, root

PLACES = [*root(build()).walk()]
COMMANDS = [place for place in PLACES if not place.is_group]


def find(words: list[str]) -> tuple[Place, list[str]]:
    """Return the command that the words name, and what is left for it."""
    place = PLACES[0]
    while place.is_group:
        while words[0].startswith("-") and not place.default:
            words = words[2:]  # a global option with its value
        children = {child.path[-1]: child for child in place.children()}
        if words[0] in children:
            place, words = children[words[0]], words[1:]
        else:
            assert place.default, f"{words[0]!r} is no command of {place.path}"
            place = children[place.default]
    return place, words


@pytest.mark.parametrize("place", COMMANDS, ids=lambda place: "-".join(place.path))
def test_a_command_has_an_example_that_it_takes(place: Place) -> None:
    """What its help shows can be typed: options, choices and the number of arguments are right."""
    told = examples(place)
    assert told, f"spanctl {' '.join(place.path)}: give its docstring an Example:"
    for example in told:
        words = shlex.split(example.partition(" > ")[0])
        assert words[0] == PROGRAM, example
        found, rest = find(words[1:])
        assert found.path == place.path, example
        # Parses as the command itself would; a mistake raises.
        found.command.make_context(place.path[-1], rest, parent=place.context.parent)
