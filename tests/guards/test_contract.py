"""What every command has in common, whoever wrote it."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from spanctl_cli.main import build

NO_DATA = {
    "context create",
    "context delete",
    "context import-prefect",
    "context set",
    "context use",
    "creds exec",
    "local down",
    "local reset",
    "local up",
}
"""Commands that write nothing to stdout, or leave it to another program."""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its words, groups left out."""

    def below(command: Any, words: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
        for name, one in getattr(command, "commands", {}).items():
            if hasattr(one, "commands"):
                yield from below(one, (*words, name))
            else:
                yield " ".join((*words, name)), one

    yield from below(typer.main.get_command(build()), ())


COMMANDS = dict(commands())


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts}


def test_every_command_that_prints_data_can_print_it_for_programs() -> None:
    """--output, --fields and --no-header are there, always together, or there is no data."""
    for words, command in COMMANDS.items():
        shaping = {"--output", "--fields", "--no-header"} & options(command)
        if words in NO_DATA:
            assert not shaping, words
        else:
            assert len(shaping) == 3, words
    assert set(COMMANDS) >= NO_DATA


def test_the_formats_are_those_that_are_documented() -> None:
    """Of every command."""
    for words, command in COMMANDS.items():
        for parameter in command.params:
            if "--output" in parameter.opts:
                page = CliRunner().invoke(build(), [*words.split(), "--help"]).stdout
                also = "|html" if words == "audit show" else ""
                formats = f"<table|wide|json|jsonl|csv|name{also}>"
                assert formats in "".join(page.split()), words


@pytest.mark.parametrize("words", sorted(COMMANDS))
def test_every_command_has_a_help_page(words: str) -> None:
    """It says what the command does in a sentence."""
    result = CliRunner().invoke(build(), [*words.split(), "--help"])
    assert result.exit_code == 0
    assert inspect.cleandoc(COMMANDS[words].help or "").partition("\n")[0].endswith((".", ":", "?"))
