"""``spanctl help``: commands, error codes, exit codes and the shapes of JSON, explained."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from spanctl.errors import UsageError
from spanctl_cli.exit_codes import MEANINGS, ExitCode
from spanctl_cli.options import OutputOption, Panel
from spanctl_cli.output import Column, Format, Kind, Listing, Record, emit, stdout

if TYPE_CHECKING:
    from spanctl_cli.catalogue import Explanation

_TOPICS: Final = {
    "exit-codes": "what the exit code of every command means",
    "errors": "the codes of errors; spanctl help CODE explains one",
    "output": "formats, fields, times, and what programs can rely on",
    "schemas": "the shapes of JSON; spanctl help SCHEMA prints the JSON Schema of one",
}
_OUTPUT: Final = """\
stdout is data and nothing else; progress, notes and errors go to stderr. When a command fails,
stdout stays empty.

  -o table   on a terminal aligned, times local and relative; in a pipe tab-separated, whole,
             uncoloured, a header line first, times RFC 3339 in UTC. The default.
  -o wide    the same with every field
  -o json    one document with a "schema" such as spanctl.audit.list/v1; a list's rows are "items"
  -o jsonl   one object a line, each with its "schema"; of live commands, events as they come
  -o csv     RFC 4180 with a header line; sections of a record are left out
  -o name    ids alone, one a line

  --fields a,b    these fields only, in this order; a name that doesn't exist lists those that do
  --no-header     no header line in table, wide and csv

In JSON times are RFC 3339 in UTC, durations seconds, decimals strings, bytes Base64, and what isn't
known is null. Within a version fields are added, never renamed, removed or retyped: ignore those
you don't know. Under -o json and jsonl an error is one object on stderr:
{"schema": "spanctl.error/v1", "error": {"code": ..., "message": ..., "hint": ..., ...}}

NO_COLOR and TERM=dumb switch colours off. Ids are never cut. Where a terminal is too narrow for a
table, each row becomes a block.
"""
_TOPIC_COLUMNS: Final = (Column("topic", kind=Kind.ID), Column("about"))
_CODES: Final = (
    Column("exit_code", title="code", kind=Kind.ID),
    Column("name"),
    Column("meaning"),
)
_ERRORS: Final = (
    Column("code", kind=Kind.ID),
    Column("exit_code", title="exit", kind=Kind.NUMBER),
    Column("cause"),
    Column("next", extra=True),
)
_TEXT: Final = (Column("topic", kind=Kind.ID), Column("text"))


def _explained_words() -> list[str]:
    """Return what completes the first word, besides the commands."""
    from spanctl_cli import schemas
    from spanctl_cli.catalogue import ERRORS

    return [*_TOPICS, *sorted(ERRORS), *(f"spanctl.{noun}/v1" for noun in schemas.nouns())]


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("help", rich_help_panel=Panel.HELP)(help_)


def help_(
    ctx: typer.Context,
    *,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COMMAND|CODE|TOPIC]...",
            help="What to explain; topics when left out.",
            autocompletion=_explained_words,
        ),
    ] = None,
    output: OutputOption = None,
) -> None:
    """Explain a command, an error code, an exit code, or a topic.

    Example: spanctl help key_closed
    """
    if not words:
        rows = [{"topic": topic, "about": about} for topic, about in _TOPICS.items()]
        rows.append({"topic": "COMMAND", "about": "a command's options and examples"})
        emit(Listing("help", _TOPIC_COLUMNS, rows), output)
        return
    topic = " ".join(words)
    match topic.lower():
        case "exit-codes":
            emit(Listing("help.exit_codes", _CODES, map(_code, ExitCode)), output)
        case "errors":
            from spanctl_cli.catalogue import ERRORS

            rows = [_explained(code, found) for code, found in sorted(ERRORS.items())]
            emit(Listing("help.errors", _ERRORS, rows), output)
        case "output":
            _tell("output", _OUTPUT, output)
        case "schemas":
            from spanctl_cli import schemas

            emit(schemas.listing(), output)
        case _:
            _explain(ctx, words, topic, output)


def _explain(ctx: typer.Context, words: list[str], topic: str, output: Format | None) -> None:
    from spanctl_cli.catalogue import ERRORS

    if (found := ERRORS.get(topic.lower())) is not None:
        _tell_error(topic.lower(), found, output)
        return
    if topic.isdecimal() and int(topic) in {*ExitCode}:
        code = ExitCode(int(topic))
        rows = [
            _explained(name, found) for name, found in ERRORS.items() if found.exit_code is code
        ]
        emit(Listing("help.errors", _ERRORS, rows, facts=_code(code)), output)
        return
    from spanctl_cli import schemas

    if (schema := schemas.named(topic)) is not None:
        stdout.write(schema)
        return
    _tell(topic, _page(ctx, words, topic), output)


def _code(code: ExitCode) -> dict[str, Any]:
    return {"exit_code": code.value, "name": code.name.lower(), "meaning": MEANINGS[code]}


def _explained(code: str, found: "Explanation") -> dict[str, Any]:
    return {
        "code": code,
        "exit_code": found.exit_code.value,
        "cause": found.cause,
        "next": found.next,
    }


def _tell_error(code: str, found: "Explanation", output: Format | None) -> None:
    if output is not None and not output.is_table:
        emit(Record("help.error", _ERRORS, _explained(code, found)), output)
        return
    meaning = MEANINGS[found.exit_code]
    parts = (f"{code}: exit {found.exit_code.value}, {meaning}", found.cause, found.next)
    stdout.write("\n\n".join(map(_wrapped, parts)) + "\n")


def _tell(topic: str, text: str, output: Format | None) -> None:
    """Write prose as it is, but for programs that want it in a format of theirs."""
    if output is None or output.is_table:
        stdout.write(text)
        return
    emit(Record("help.text", _TEXT, {"topic": topic, "text": text}), output)


def _wrapped(text: str) -> str:
    from textwrap import fill

    if not stdout.stdout_is_terminal():
        return text
    from spanctl_cli.output.rendering import terminal_width

    return fill(text, min(terminal_width(), 100), break_long_words=False, break_on_hyphens=False)


def _page(ctx: typer.Context, words: list[str], topic: str) -> str:
    """Return the help page of a command.

    Raises:
        UsageError: There is no such command, nor another thing of this name.
    """
    context: Any = ctx.find_root()
    for word in words:
        group = context.command
        command = getattr(group, "commands", {}).get(word)
        if command is None:
            raise _unknown(topic, word, group)
        context = type(context)(command, info_name=word, parent=context)
    return f"{context.command.get_help(context)}\n"


def _unknown(topic: str, word: str, group: Any) -> UsageError:  # noqa: ANN401 - Typer's vendored type
    from difflib import get_close_matches

    from spanctl_cli.catalogue import ERRORS

    commands = [name for name, one in getattr(group, "commands", {}).items() if not one.hidden]
    near = get_close_matches(word, [*commands, *_TOPICS, *ERRORS], n=1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    msg = f"there is no help on {topic!r}{guess}"
    known = f"there are: {', '.join(commands)}" if commands else "see: spanctl help"
    return UsageError(msg, hint=known if near or group.name != "spanctl" else "see: spanctl help")
