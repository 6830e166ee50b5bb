"""From what was typed to what may follow, by the generated table of commands.

A *node* of the table is a command: ``help``, ``options``, ``arguments``, and for a group
``commands`` and maybe ``default``, the command that takes what is none of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from spanctl_cli.completing.typed import Typed

Node = Mapping[str, Any]
Parameter = Mapping[str, Any]

_NOTHING: Final[Node] = {}
_COMMANDS: Final = "commands"
"""The kind of an argument that is the path of a command."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What may stand at the cursor.

    Attributes:
        fixed: Values that the table knows, each with a description.
        kinds: The kinds of the values that it doesn't know.
        prefix: What stands before each of these values: ``--context=``.
        context: The context that an option before the cursor names.
        dashed: Whether a value that begins with a dash would be taken for one, not for an option.
    """

    fixed: tuple[tuple[str, str], ...] = ()
    kinds: tuple[str, ...] = ()
    prefix: str = ""
    context: str | None = None
    dashed: bool = False


@dataclass(slots=True)
class _Walk:
    """Where in the table the words so far have led."""

    node: Node
    passed: list[str] = field(default_factory=list)
    """Arguments of the node that were given."""
    ended: bool = False
    """Whether ``--`` has ended the options."""
    awaiting: Parameter | None = None
    """The option whose value comes next."""
    used: set[str] = field(default_factory=set)
    context: str | None = None

    def step(self, word: str) -> None:
        if self.awaiting is not None:
            self._value(self.awaiting, word)
            self.awaiting = None
        elif self.ended or word == "-" or not word.startswith("-"):
            self._argument(word)
        elif word == "--":
            self.ended = True
        else:
            self._option(word)

    def _option(self, word: str) -> None:
        name, equals, value = word.partition("=")
        if not word.startswith("--"):
            name, value = word[:2], word[2:]
        if self.option(name) is None:
            self._descend(self.node.get("default"))
        option = self.option(name)
        self.used.update(option["names"] if option else ())
        if option is None or "flag" in option:
            return
        if value or equals:
            self._value(option, value)
        else:
            self.awaiting = option

    def _value(self, option: Parameter, value: str) -> None:
        if "--context" in option["names"]:
            self.context = value

    def _argument(self, word: str) -> None:
        commands = self.node.get("commands")
        if commands is None:
            self.passed.append(word)
        elif word in commands:
            self._descend(word)
        elif "default" in self.node:
            self._descend(self.node["default"])
            self.passed = [word]
        else:
            self.node = _NOTHING  # a mistake: nothing that follows can be told

    def _descend(self, name: str | None) -> None:
        if name is not None:
            self.node = self.node["commands"][name]
            self.passed, self.used = [], set()

    def option(self, name: str) -> Parameter | None:
        """Return the node's option of this spelling."""
        options = self.node.get("options", ())
        return next((option for option in options if name in option["names"]), None)


def wanted(table: Node, typed: Typed) -> Wanted:
    """Return what may stand at the cursor."""
    walk = _Walk(table)
    for word in typed.words:
        walk.step(word)
    if walk.awaiting is not None:
        return replace(_values(walk.awaiting, walk.context), dashed=True)
    if typed.current.startswith("-") and not walk.ended:
        return _option_at(walk, typed.current)
    if "commands" in walk.node:
        return _command_at(walk)
    argument = _at(walk.node.get("arguments", ()), len(walk.passed))
    if argument is not None and _COMMANDS in argument.get("kinds", ()):
        return _words_of_a_command(table, walk.passed, argument)
    if argument is not None:
        return replace(_values(argument, walk.context), dashed=walk.ended)
    return Wanted(kinds=("files",)) if walk.ended else Wanted(tuple(_options(walk)))


def _option_at(walk: _Walk, current: str) -> Wanted:
    name, equals, _ = current.partition("=")
    if not equals:
        return Wanted(tuple(_options(walk)))
    return _values(walk.option(name) or _NOTHING, walk.context, prefix=f"{name}=")


def _command_at(walk: _Walk) -> Wanted:
    """Return the commands of a group, and what its default command would take there."""
    node = walk.node
    default = node["commands"][node["default"]] if "default" in node else _NOTHING
    first = _values(_at(default.get("arguments", ()), 0) or _NOTHING, walk.context)
    return Wanted(tuple(_commands(node)) + first.fixed, first.kinds, context=walk.context)


def _words_of_a_command(table: Node, before: Sequence[str], argument: Parameter) -> Wanted:
    """Return the next words of a command's path, at its start the argument's own words as well."""
    node = table
    for word in before:
        node = node.get("commands", _NOTHING).get(word, _NOTHING)
    below = tuple(_commands(node)) if "commands" in node else ()
    return Wanted(below if before else _values(argument, None).fixed + below)


def _at(arguments: Sequence[Parameter], index: int) -> Parameter | None:
    if index < len(arguments):
        return arguments[index]
    return arguments[-1] if arguments and "many" in arguments[-1] else None


def _values(parameter: Parameter, context: str | None, prefix: str = "") -> Wanted:
    fixed = tuple((f"{prefix}{value}", "") for value in parameter.get("values", ()))
    return Wanted(fixed, tuple(parameter.get("kinds", ())), prefix, context)


def _commands(node: Node) -> Iterator[tuple[str, str]]:
    for name, command in node["commands"].items():
        if "hidden" not in command:
            yield name, command["help"]


def _options(walk: _Walk) -> Iterator[tuple[str, str]]:
    node = walk.node
    nodes = [node, node["commands"][node["default"]]] if "default" in node else [node]
    seen: set[str] = set()
    for option in (option for one in nodes for option in one.get("options", ())):
        if "many" in option or walk.used.isdisjoint(option["names"]):
            for name in option["names"]:
                if name.startswith("--") and name not in seen:
                    seen.add(name)
                    yield name, option["help"]
