"""Write the reference of all commands: ``python -m spanctl_cli.reference FOLDER``."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spanctl_cli.tree import PROGRAM, Place, examples, paragraphs, root, summary

_ABOUT = """\
Written by `make docs` from the commands' own help. Exit codes are those of the
[README](../../README.md#scripts); for scripts see [SCRIPTING](../SCRIPTING.md).
"""
_PARTS = re.compile(r"\s{2,}")


def pages() -> dict[str, str]:
    """Return the pages by the name of their file: an index, and one for each top command."""
    from spanctl_cli.main import COMMANDS, build

    top = root(build())
    shown = [child for child in top.children() if not child.command.hidden]
    children = sorted(shown, key=lambda child: [*COMMANDS].index(_name(child)))
    lines = [
        "# Commands of spanctl\n",
        _ABOUT,
        *(f"- [`{_title(one)}`]({_name(one)}.md): {_text(summary(one))}" for one in children),
        "\nBefore any command:\n",
        *_parameters(top),
    ]
    found = {"README.md": "\n".join(lines) + "\n"}
    for child in children:
        sections = [_section(one) for one in child.walk() if _is_shown(one)]
        found[f"{_name(child)}.md"] = "\n".join(sections)
    return found


def _is_shown(place: Place) -> bool:
    return place.is_default or not place.command.hidden


def _name(place: Place) -> str:
    return " ".join(place.path)


def _title(place: Place) -> str:
    return " ".join((PROGRAM, *place.typed))


def _section(place: Place) -> str:
    level = "#" if len(place.path) == 1 else "##"
    title = f"{_title(place)} ..." if place.is_default else _title(place)
    lines = [f"{level} {title}\n"]
    lines += [f"{_text(text)}\n" for text in paragraphs(place)]
    usage = " ".join(place.command.collect_usage_pieces(place.context))
    lines += ["```text", f"{_title(place)} {usage}", "```\n"]
    if not place.is_group:
        lines += [*_parameters(place), ""]
    if told := examples(place):
        lines += ["```sh", *told, "```\n"]
    return "\n".join(lines)


def _parameters(place: Place) -> Iterator[str]:
    """Yield a line for each argument and option, as the help page has them."""
    parameters: list[Any] = place.command.get_params(place.context)
    for parameter in parameters:
        record = parameter.get_help_record(place.context)
        if record is not None and "--help" not in parameter.opts:
            names, about = record
            yield f"- `{names}`: {_text(_PARTS.sub(' ', about))}"


def _text(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"([*_<>|`\\])", r"\\\1", text)


def write(folder: Path) -> None:
    """Replace the pages of a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
