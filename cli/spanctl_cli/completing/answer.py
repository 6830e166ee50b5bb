"""Answer one TAB: quickly, with nothing on stderr, and never with an error."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from spanctl_cli.completing.typed import Typed
from spanctl_cli.completing.walk import Wanted, wanted

VARIABLE: Final = "_SPANCTL_COMPLETE"
"""Set to the shell's name by its script."""
TABLE: Final = Path(__file__).with_name("commands.json")
FILES: Final = "\tfiles"
"""The line that has the shell offer files; no value has a TAB in it."""

Values = Iterable[tuple[str, str]]


def main() -> None:
    """Write what may stand at the cursor to stdout, a line each, and return."""
    with contextlib.suppress(Exception, KeyboardInterrupt):  # a prompt is no place for errors
        text = "".join(f"{line}\n" for line in answer(os.environ[VARIABLE], os.environ))
        os.write(1, text.encode("utf-8", "surrogateescape"))


def answer(shell: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines that the shell's script reads."""
    typed = Typed.read(shell, environ)
    asked = wanted(json.loads(TABLE.read_bytes()), typed)
    if shell == "bash":
        for value in _fitting(asked, typed.current):
            yield typed.written(value)
    else:
        form = {"zsh": _for_zsh, "fish": _for_fish}[shell]
        for value, about in _all(asked):
            yield form(value, about)
    if "files" in asked.kinds:
        yield FILES


def _all(asked: Wanted) -> Iterator[tuple[str, str]]:
    """Yield the values that may stand there, each once, without those that no line can hold."""
    seen: set[str] = set()
    changing = ((f"{asked.prefix}{value}", about) for value, about in _changing(asked))
    for value, about in (*asked.fixed, *changing):
        if value not in seen and value.isprintable():
            seen.add(value)
            yield value, about if about.isprintable() else ""


def _fitting(asked: Wanted, start: str) -> Iterator[str]:
    return (value for value, _ in _all(asked) if value.startswith(start))


def _changing(asked: Wanted) -> Iterator[tuple[str, str]]:
    """Yield the values that the table can't know, and see to it that they are renewed."""
    kinds = [kind for kind in asked.kinds if kind != "files"]
    if not kinds:
        return
    from spanctl.errors import SpanctlError
    from spanctl.settings import Contexts, resolve
    from spanctl_cli.completing.cache import Cache

    with contextlib.suppress(SpanctlError):
        if "contexts" in kinds:
            kinds.remove("contexts")
            yield from ((name, "") for name in sorted(Contexts.load().contexts))
        if kinds:
            cache = Cache.of(resolve(context=asked.context))
            known = cache.read()
            pairs = (pair for kind in kinds for pair in known.get(kind, ()))
            # A run that somebody called --yes must not become an option by a TAB.
            is_safe = asked.dashed or asked.prefix
            yield from (one for one in pairs if is_safe or not one[0].startswith("-"))
            if not cache.is_fresh():
                with contextlib.suppress(OSError):  # a full or foreign disk
                    cache.have_renewed()


def _for_zsh(value: str, about: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(":", "\\:")
    return f"{escaped}:{about}" if about else escaped


def _for_fish(value: str, about: str) -> str:
    return f"{value}\t{about}" if about else value
