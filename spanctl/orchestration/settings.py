"""How Prefect's API is reached: its own environment variables, then its profiles file."""

import json
import os
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spanctl.errors import ConfigurationError

URL = "PREFECT_API_URL"
KEY = "PREFECT_API_KEY"
AUTH_STRING = "PREFECT_API_AUTH_STRING"
HEADERS = "PREFECT_CLIENT_CUSTOM_HEADERS"
_CERTIFICATES = "PREFECT_API_SSL_CERT_FILE"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where Prefect's API is, and what opens it; ``repr()`` shows no secret.

    Attributes:
        url: Base URL, such as ``http://127.0.0.1:4200/api``.
        key: API key, sent as a bearer token.
        auth_string: ``user:password``, sent as basic authentication; it wins over the key.
        certificates: File of the CA certificates to trust; None for the usual ones.
        headers: Sent with each request, besides.
    """

    url: str
    key: str | None = field(default=None, repr=False)
    auth_string: str | None = field(default=None, repr=False)
    certificates: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def api_settings(
    url: str | None = None, *, environ: Mapping[str, str] = os.environ
) -> ApiSettings | None:
    """Return how to reach the API; None when no URL is known.

    Each value is taken from Prefect's variables in the environment, else from its active profile.

    Args:
        url: The URL, when something else (a context) knows it already.
        environ: The environment to look in.

    Raises:
        ConfigurationError: The profiles file can't be read, or the headers are no JSON.
    """
    values = {**_profile(environ), **{name: value for name, value in environ.items() if value}}
    found = url or values.get(URL)
    if not found:
        return None
    return ApiSettings(
        found.rstrip("/"),
        values.get(KEY),
        values.get(AUTH_STRING),
        values.get(_CERTIFICATES),
        parse_headers(values.get(HEADERS, "{}")),
    )


def parse_headers(text: str) -> dict[str, str]:
    """Read headers from JSON: an object whose values are text.

    Raises:
        ConfigurationError: The text is none; it is not quoted.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    plain = isinstance(found, dict) and all(
        isinstance(value, str) and f"{name}{value}".isprintable() for name, value in found.items()
    )
    if not plain:
        msg = "the headers for the Prefect API are no JSON object of text"
        raise ConfigurationError(msg, hint='write {"NAME": "VALUE"}')
    return dict(found)


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    home = Path(environ.get("PREFECT_HOME") or Path(environ.get("HOME", "~")) / ".prefect")
    path = Path(environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml").expanduser()
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        msg = f"can't read Prefect's profiles in {path}"
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.broken')}"
        raise ConfigurationError(msg, hint=f"mend that file, or run: {aside}") from error
    active = environ.get("PREFECT_PROFILE") or data.get("active")
    profile = data.get("profiles", {}).get(active, {})
    return {name: str(value) for name, value in profile.items()}
