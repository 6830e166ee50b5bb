"""Values that are read without Pydantic come to what Typer would have read."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer._click import Context
from typer._click.exceptions import BadParameter
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from spanctl_cli.coercion import PlainValues, plain
from spanctl_cli.main import build

ROOT = get_command(build())
CONTEXT = Context(TyperCommand("none"))
NOT_PLAIN = plain(object(), next(one for one in ROOT.params if one.name == "context"))
TEXTS = ("", " ", "5", "0", "-1", "+5", "007", "1_0", "٣", "1" * 30, "1.5", "json", "JSON", "é\x00")
LISTS: tuple[Any, ...] = ((), ("a",), ["a", ""], ("a", 1), (None,))
OTHERS: tuple[Any, ...] = (None, True, False, 0, 7, -3, 1.5, b"bytes", object())


def commands(command: TyperCommand | TyperGroup) -> Iterator[TyperCommand | TyperGroup]:
    yield command
    for below in getattr(command, "commands", {}).values():
        yield from commands(below)


def kinds() -> dict[str, Any]:
    """One parameter of each kind that the commands have."""
    found = {}
    for command in commands(ROOT):
        for param in command.params:
            assert isinstance(param, TyperOption | TyperArgument)
            kind = param.type_descriptor
            many = param.multiple or param.nargs == -1
            info = kind.parameter_info
            name = f"{kind.annotation} {info.min} {info.max} {info.parser is not None} {many}"
            found.setdefault(name, param)
    return found


def by_typer(value: Any, param: Any) -> Any:
    param._runtime_param = None  # noqa: SLF001 - Typer makes its own then
    try:
        return param.get_runtime_param().coerce(value, param=param, ctx=CONTEXT)
    except BadParameter:
        return BadParameter


@pytest.mark.parametrize("param", kinds().values(), ids=kinds())
def test_what_is_plain_is_what_typer_reads(param: Any) -> None:
    """The same value of the same type; what Typer refuses is never read."""
    read = 0
    for value in (*TEXTS, *LISTS, *OTHERS):
        found = plain(value, param)
        if found is not NOT_PLAIN:
            wanted = by_typer(value, param)
            assert (type(found), found) == (type(wanted), wanted), repr(value)
            read += 1
    assert read, "None at least is plain"


def test_every_command_reads_plain_values_itself() -> None:
    """But for the one that runs other programs, whose line is no option of ours."""
    others = {one.name for one in commands(ROOT) if not isinstance(one, PlainValues)}
    assert others == {"exec"}
