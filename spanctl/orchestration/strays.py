"""Files of Prefect's that lie in a folder: told, and taken over by hand, but never read unasked.

Prefect takes settings from ``.env``, ``prefect.toml`` and ``pyproject.toml`` of the folder that one
stands in. spanctl does not, see :mod:`spanctl.orchestration.compat`.
"""

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from spanctl.errors import ConfigurationError, NotFoundError
from spanctl.orchestration.settings import AUTH_STRING, HEADERS, KEY, URL, parse_headers

if TYPE_CHECKING:
    from spanctl.credentials.secret import Secret

NAMES: Final = (".env", "prefect.toml", "pyproject.toml")
"""What Prefect looks for, in its order."""

_PREFIX: Final = "PREFECT_"
_LARGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Stray:
    """A file with settings of Prefect's.

    Attributes:
        path: Where it is.
        url: The API that it names; None for none.
        opens: Prefect's variable to what the file says opens that API: key, auth string, headers.
        others: Prefect's variables, or the names in a TOML file, of all else that it sets; sorted.
    """

    path: Path
    url: str | None
    opens: "Mapping[str, Secret]" = field(default_factory=dict)
    others: tuple[str, ...] = ()


def found(folder: Path) -> list[Stray]:
    """Return the files in a folder that Prefect would take settings from.

    What can't be read, or holds none of them, is left out.
    """
    strays = []
    for name in NAMES:
        try:
            stray = read(folder / name)
        except (ConfigurationError, NotFoundError):
            continue
        if stray.url or stray.opens or stray.others:
            strays.append(stray)
    return strays


def note(folder: Path, url: str | None) -> str:
    """Return a line about what is not read in a folder; empty where nothing else would come of it.

    Args:
        folder: The folder that one stands in.
        url: The API in use.
    """
    strays = [one for one in found(folder) if one.others or not names(one, url)]
    if not strays:
        return ""
    told = f"not read, though Prefect would: {', '.join(one.path.name for one in strays)}"
    command = next((take_over(one) for one in strays if not names(one, url)), "")
    return f"{told}; to take its API over run: {command}" if command else told


def names(stray: Stray, url: str | None) -> bool:
    """Whether no other API than this one is what a file names."""
    return stray.url is None or stray.url.rstrip("/") == (url or "").rstrip("/")


def take_over(stray: Stray) -> str:
    """Return the command that takes the API of a file over."""
    return f"spanctl context import-prefect {shlex.quote(stray.path.name)}"


def remedy(folder: Path) -> str:
    """Return the command that has an API set: from a file in a folder, where one names it."""
    named = next((one for one in found(folder) if one.url), None)
    return f"run: {take_over(named)}" if named else "run: spanctl local up, or set PREFECT_API_URL"


def read(path: Path) -> Stray:
    """Read such a file; any other name than ``*.toml`` is one of variables, as ``.env``.

    Raises:
        NotFoundError: There is no such file.
        ConfigurationError: It can't be read, or is damaged.
    """
    from spanctl.credentials.hardening import harden, without_locals

    harden()  # before this process holds it
    with without_locals():
        return _read(path)


def _read(path: Path) -> Stray:
    from spanctl.credentials.secret import Secret

    text = _text(path)
    values = dict(_of_toml(path, text) if path.suffix == ".toml" else _of_variables(text))
    opens = {name: values.pop(name) for name in (KEY, AUTH_STRING, HEADERS) if values.get(name)}
    if HEADERS in opens:
        parse_headers(opens[HEADERS])
    url = values.pop(URL, None) or None
    if url is not None and not _is_url(url):
        msg = f"what {path} names as Prefect's API is no URL"
        raise ConfigurationError(msg, hint="write it as http://HOST:PORT/api")
    if any(not opens.get(name, "").isprintable() for name in (KEY, AUTH_STRING)):
        msg = f"what opens Prefect's API in {path} is no line of text"
        raise ConfigurationError(msg)
    secrets = {name: Secret(value) for name, value in opens.items()}
    return Stray(path, url, secrets, tuple(sorted(values)))


def _is_url(text: str) -> bool:
    try:
        at = urlsplit(text)
        usable = at.scheme in {"http", "https"} and bool(at.hostname) and at.port != 0
    except ValueError:
        return False
    return usable and text.isprintable() and " " not in text


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            msg = f"there is no file {path}"
            raise NotFoundError(msg, hint=f"name a {NAMES[0]}, {NAMES[1]} or {NAMES[2]}")
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            msg = f"{path} is larger than 1 MiB, and so no file of settings"
            raise ConfigurationError(msg)
        return content.decode("utf-8-sig")
    except OSError as error:
        msg = f"can't read {path}: {error.strerror}"
        raise ConfigurationError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path} is no text in UTF-8"
        raise ConfigurationError(msg) from error


def _of_variables(text: str) -> dict[str, str]:
    """Read lines ``NAME=VALUE``; nothing in them is replaced by a variable of this process."""
    from io import StringIO

    from dotenv import dotenv_values

    given = dotenv_values(stream=StringIO(text), interpolate=False)
    return {
        name.upper(): value or ""
        for name, value in given.items()
        if name.upper().startswith(_PREFIX)
    }


def _of_toml(path: Path, text: str) -> dict[str, str]:
    try:
        data: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        msg = f"{path} is no TOML: {error}"
        raise ConfigurationError(msg) from error
    if path.name == "pyproject.toml":
        tool = data.get("tool")
        data = tool.get("prefect") if isinstance(tool, dict) else None
    known = {
        "api.url": URL,
        "api.key": KEY,
        "api.auth_string": AUTH_STRING,
        "client.custom_headers": HEADERS,
    }
    return {
        known.get(name, name): value if isinstance(value, str) else json.dumps(value, default=str)
        for name, value in _leaves(data, known)
    }


def _leaves(data: Any, whole: Mapping[str, str], before: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - TOML
    if not isinstance(data, dict) or before.removesuffix(".") in whole:
        if before:
            yield before.removesuffix("."), data
        return
    for name, value in data.items():
        yield from _leaves(value, whole, f"{before}{name}.")
