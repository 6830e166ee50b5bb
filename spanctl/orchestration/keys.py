"""What opens Prefect's API, where a secret or a file holds it: read when needed, kept in memory.

A context names where they are in ``prefect_api_key`` and ``prefect_auth_string``, and further
headers in ``prefect_headers``. Prefect's own variables, such as ``PREFECT_API_KEY``, go before a
secret that a context names, but not before a file, and ``SPANCTL_PREFECT_API_KEY`` and the like
before all. A secret goes before Prefect's profiles. What a context names is for the API that the
same context names: another one, which a variable or a flag points to, never gets it.
"""

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from spanctl.errors import ConfigurationError, UnreachableError
from spanctl.orchestration.settings import (
    AUTH_STRING,
    HEADERS,
    KEY,
    URL,
    ApiSettings,
    api_settings,
    parse_headers,
)
from spanctl.peers import trust_only_own
from spanctl.references import FileReference, SecretReference, parse_kept, parse_reader
from spanctl.settings import Contexts, Settings, Source, config_home

if TYPE_CHECKING:
    from spanctl.credentials.secret import Secret

SETTINGS: Final = {
    KEY: "prefect_api_key",
    AUTH_STRING: "prefect_auth_string",
    HEADERS: "prefect_headers",
}
"""Prefect's variable to the setting that refers to where its value is kept."""

_TOGETHER: Final = ((KEY, AUTH_STRING), (HEADERS,))
"""What takes each other's place: where one comes from, the other does too."""

_LONGEST: Final = 4096


def reach(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> ApiSettings | None:
    """Return how to reach the API that the settings name; None when no URL is known.

    Args:
        settings: The resolved settings.
        environ: The environment to look in for Prefect's own.

    Raises:
        ConfigurationError: Prefect's profiles file, or another file, can't be read, or is open to
            others.
        SpanctlError: The secret could not be read.
    """
    found = api_settings(settings.get("prefect_api_url"), environ=environ)
    if found is None:
        return None
    kept = read(settings, environ=environ)
    if not kept:
        return found
    told = {name: secret.reveal_text() for name, secret in kept.items()}
    opens = told.keys() & {KEY, AUTH_STRING}
    return replace(
        found,
        key=told.get(KEY) if opens else found.key,
        auth_string=told.get(AUTH_STRING) if opens else found.auth_string,
        headers=parse_headers(told[HEADERS]) if HEADERS in told else found.headers,
    )


def read(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> "dict[str, Secret]":
    """Return what is kept for Prefect, by the name of Prefect's variable; empty for nothing.

    Args:
        settings: The resolved settings.
        environ: The environment to look in for Prefect's own.

    Raises:
        ConfigurationError: A file can't be read, or is open to others.
        NotFoundError: There is no such secret or version.
        NotPermittedError: It may not be read.
        UnreachableError: Secret Manager did not answer, or the local stack was ended.
        SpanctlError: It can't be used.
    """
    wanted = _wanted(settings, environ)
    if settings.is_local and any(isinstance(one, FileReference) for one in wanted.values()):
        trust_only_own(settings.get("prefect_api_url") or "")
    return {name: _read(one, settings) for name, one in wanted.items()}


def assignments(settings: Settings, url: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the shell's assignments by which Prefect's own commands reach an API.

    Args:
        settings: The resolved settings; a file that they name is read by the shell.
        url: The API.
        environ: The environment; what it has already is left out.
    """
    scheme, marks, rest = url.rpartition("://")
    where, slash, path = rest.partition("/")
    host = where.rpartition("@")[2]  # what is before it is a password
    given = environ.get(URL, "").rstrip("/") == url
    told = [] if given else [f"{URL}={shlex.quote(f'{scheme}{marks}{host}{slash}{path}')}"]
    files = (
        f'{name}="$(cat {shlex.quote(str(one.path))})"'
        for name, one in _wanted(settings, {}).items()
        if isinstance(one, FileReference) and not environ.get(name)
    )
    return [*told, *files]


def _read(reference: SecretReference | FileReference, settings: Settings) -> "Secret":
    if isinstance(reference, FileReference):
        if settings.is_local and not reference.path.exists():
            msg = "what opens the local stack's Prefect API is gone: the stack was ended, it seems"
            raise UnreachableError(msg, hint="run: spanctl local up")
        return read_file(reference.path)
    from spanctl.credentials.endpoints import Endpoints
    from spanctl.credentials.resolve import read_secret

    endpoints = Endpoints.from_settings(settings)
    reader = parse_reader(settings.require("secret_reader"))
    return read_secret(reference, endpoints, reader=reader)


def read_file(path: Path) -> "Secret":
    """Return the line that a file holds, which nobody but its owner may read; it hardens first.

    Raises:
        ConfigurationError: It can't be read, holds something else, or is open to others.
    """
    from spanctl.credentials.hardening import harden, without_locals

    harden()  # before this process holds it
    with without_locals():
        return _line_of(path)


def _line_of(path: Path) -> "Secret":
    from spanctl.credentials.secret import Secret

    hint = "write it there, as one line; that of a local stack comes back by: spanctl local up"
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno())
            content = stream.read(_LONGEST + 1)
    except OSError as error:
        msg = f"can't read {path}, which holds what opens the Prefect API: {error.strerror}"
        raise ConfigurationError(msg, hint=hint) from error
    if mode.st_uid not in {0, os.geteuid()} or mode.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        msg = f"{path}, which holds what opens the Prefect API, is open to others"
        raise ConfigurationError(msg, hint=f"run: chmod 600 {shlex.quote(str(path))}")
    line = content.rstrip(b"\r\n")
    if not line or len(content) > _LONGEST or b"\n" in line:
        msg = f"{path} doesn't hold one line, which would open the Prefect API"
        raise ConfigurationError(msg, hint=hint)
    return Secret(line)


def _wanted(
    settings: Settings, environ: Mapping[str, str]
) -> dict[str, SecretReference | FileReference]:
    given = {name: settings.values[setting] for name, setting in SETTINGS.items()}
    asked = {name: parse_kept(one.value) for name, one in given.items() if one.value}
    if not asked:
        return {}
    explicit = {name for name in asked if given[name].source in {Source.FLAG, Source.ENVIRONMENT}}
    is_elsewhere = _is_elsewhere(settings, environ)
    found: dict[str, SecretReference | FileReference] = {}
    for names in _TOGETHER:
        told = explicit.intersection(names)
        is_set = any(environ.get(name) for name in names)
        for name in asked.keys() & (told or names):
            is_file = isinstance(asked[name], FileReference)
            if told or not (is_elsewhere or (is_set and not is_file)):
                found[name] = asked[name]
    return found


def _is_elsewhere(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether another API is meant than the one that the context names."""
    url = settings.values["prefect_api_url"]
    if url.source is Source.CONTEXT or url.value is None:
        return False
    contexts = Contexts.load(config_home(environ) / "contexts.toml")
    own = contexts.contexts.get(settings.context or "", {}).get("prefect_api_url")
    return bool(own) and _place(str(own)) != _place(url.value)


def _place(url: str) -> tuple[str, str, int | None, str]:
    at = urlsplit(url)
    host = at.hostname or ""
    return at.scheme, "127.0.0.1" if host == "localhost" else host, at.port, at.path.rstrip("/")
