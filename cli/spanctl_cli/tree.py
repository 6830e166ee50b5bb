"""The command line as data, read from Typer: what completions and the reference are made of."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

from spanctl_cli.completing.kinds import RULES, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "spanctl"
_EXAMPLE = "Example"


@dataclass(frozen=True, slots=True)
class Place:
    """A command or a group, and where it is.

    Attributes:
        path: The words that lead to it, without the program's name.
        command: Typer's command.
        context: Typer's context for it, as the parser would have it.
    """

    path: tuple[str, ...]
    command: TyperCommand | TyperGroup
    context: typer.Context

    @property
    def is_group(self) -> bool:
        """Whether it has commands."""
        return isinstance(self.command, TyperGroup)

    @property
    def default(self) -> str | None:
        """The name of the command that a group hands over to what is none of its commands."""
        return getattr(self.command, "default", None)

    @property
    def is_default(self) -> bool:
        """Whether it is the command that its group hands over to."""
        parent = self.context.parent
        return parent is not None and getattr(parent.command, "default", None) == self.path[-1]

    @property
    def typed(self) -> tuple[str, ...]:
        """The words that people type for it: a default command is not named."""
        return self.path[:-1] if self.is_default else self.path

    def children(self) -> "Iterator[Place]":
        """Yield a group's commands, in the order of its help page."""
        if isinstance(self.command, TyperGroup):
            for name in self.command.list_commands(self.context):
                yield _place(self.command.commands[name], (*self.path, name), self.context)

    def walk(self) -> "Iterator[Place]":
        """Yield it, and all that is below it."""
        yield self
        for child in self.children():
            yield from child.walk()


def root(app: typer.Typer) -> Place:
    """Return the command at the top."""
    return _place(get_command(app), (), None)


def _place(command: Any, path: tuple[str, ...], parent: Any) -> Place:  # noqa: ANN401 - Typer's vendored types
    name = path[-1] if path else PROGRAM
    settings = command.context_settings
    return Place(path, command, typer.Context(command, parent=parent, info_name=name, **settings))


def table(place: Place) -> dict[str, Any]:
    """Return a command with all below it as :mod:`spanctl_cli.completing.walk` reads it."""
    command = place.command
    node: dict[str, Any] = {"help": summary(place)}
    if command.hidden:
        node["hidden"] = True
    parameters: list[Any] = [
        one for one in command.get_params(place.context) if not getattr(one, "hidden", False)
    ]
    options = [_option(place, one) for one in parameters if isinstance(one, TyperOption)]
    arguments = [_argument(place, one) for one in parameters if not isinstance(one, TyperOption)]
    node |= {"options": options} if options else {}
    node |= {"arguments": arguments} if arguments else {}
    if place.is_group:
        node["commands"] = {child.path[-1]: table(child) for child in place.children()}
    if place.default:
        node["default"] = place.default
    return node


def summary(place: Place) -> str:
    """Return the first sentence of a command's help."""
    return _line(place.command.get_short_help_str(1000))


def paragraphs(place: Place) -> list[str]:
    """Return the paragraphs of a command's help, without its examples, each on one line."""
    parts = _parts(place)
    return [_line(part) for part in parts if not part.startswith(_EXAMPLE)]


def examples(place: Place) -> list[str]:
    """Return the examples in a command's help, each as one line to be typed."""
    found: list[str] = []
    for part in _parts(place):
        if part.startswith(_EXAMPLE):
            for line in part.partition(":")[2].strip().splitlines():
                if line.strip().startswith(PROGRAM) or not found:
                    found.append(line.strip())
                else:
                    found[-1] += f" {line.strip()}"
    return found


def _parts(place: Place) -> list[str]:
    text = (place.command.help or "").replace("\b\n", "")
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _option(place: Place, option: Any) -> dict[str, Any]:  # noqa: ANN401 - Typer's vendored type
    found: dict[str, Any] = {
        "names": sorted((*option.opts, *option.secondary_opts)),  # Typer has --help's in a set
        "help": _line(option.help),
    }
    if option.multiple:
        found["many"] = True
    if option.is_flag or option.count:
        return {**found, "flag": True}
    return found | _values(place, option, option.opts[0])


def _argument(place: Place, argument: Any) -> dict[str, Any]:  # noqa: ANN401 - Typer's vendored type
    many = {"many": True} if argument.nargs != 1 else {}
    return many | _values(place, argument, argument.name)


def _values(place: Place, parameter: Any, name: str) -> dict[str, Any]:  # noqa: ANN401 - Typer's vendored type
    """Return what completes a parameter: the kinds of the first rule that fits, and its words."""
    offered = parameter.shell_complete(place.context, "")
    values = list(dict.fromkeys(item.value for item in offered if item.type == "plain"))
    kinds = _kinds(" ".join(place.path), parameter, name)
    if kinds is None:
        kinds = (Kind.FILES,) if len(values) < len(offered) else ()
    found: dict[str, Any] = {"kinds": [kind.value for kind in kinds]} if kinds else {}
    return found | ({"values": values} if values else {})


def _kinds(path: str, parameter: Any, name: str) -> tuple[Kind, ...] | None:  # noqa: ANN401 - Typer's vendored type
    for command, pattern, kinds in RULES:
        named = fnmatchcase(name, pattern) or fnmatchcase(parameter.metavar or "", pattern)
        if fnmatchcase(path, command) and named:
            return kinds
    return None
