"""What opens Prefect's API, where a secret holds it: read when it is needed, kept in memory only.

A context names the secrets in ``prefect_api_key`` and ``prefect_auth_string``. Prefect's own
variables, ``PREFECT_API_KEY`` and ``PREFECT_API_AUTH_STRING``, go before what a context says, and
``SPANCTL_PREFECT_API_KEY`` and ``SPANCTL_PREFECT_AUTH_STRING`` before these. A secret goes before
Prefect's profiles.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from spanctl.orchestration.settings import AUTH_STRING, KEY, ApiSettings, api_settings
from spanctl.references import parse_reader, parse_secret
from spanctl.settings import Settings, Source

if TYPE_CHECKING:
    from spanctl.credentials.secret import Secret

SETTINGS: Final = {KEY: "prefect_api_key", AUTH_STRING: "prefect_auth_string"}
"""Prefect's variable to the setting that refers to the secret with its value."""


def reach(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> ApiSettings | None:
    """Return how to reach the API that the settings name; None when no URL is known.

    Args:
        settings: The resolved settings.
        environ: The environment to look in for Prefect's own.

    Raises:
        ConfigurationError: Prefect's profiles file, or another file, can't be read.
        SpanctlError: The secret could not be read.
    """
    found = api_settings(settings.get("prefect_api_url"), environ=environ)
    if found is None:
        return None
    kept = read(settings, environ=environ)
    if not kept:
        return found
    told = {name: secret.reveal_text() for name, secret in kept.items()}
    return ApiSettings(found.url, told.get(KEY), told.get(AUTH_STRING), found.certificates)


def read(settings: Settings, *, environ: Mapping[str, str] = os.environ) -> "dict[str, Secret]":
    """Return what secrets hold for Prefect, by the name of Prefect's variable; empty for nothing.

    Args:
        settings: The resolved settings.
        environ: The environment to look in for Prefect's own.

    Raises:
        NotFoundError: There is no such secret or version.
        NotPermittedError: It may not be read.
        UnreachableError: Secret Manager did not answer.
        SpanctlError: It can't be used.
    """
    wanted = _wanted(settings, environ)
    if not wanted:
        return {}
    from spanctl.credentials.endpoints import Endpoints
    from spanctl.credentials.resolve import read_secret

    endpoints = Endpoints.from_settings(settings)
    reader = parse_reader(settings.require("secret_reader"))
    return {
        name: read_secret(parse_secret(text), endpoints, reader=reader)
        for name, text in wanted.items()
    }


def _wanted(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    given = {name: settings.values[setting] for name, setting in SETTINGS.items()}
    asked = {name: one.value for name, one in given.items() if one.value}
    explicit = {name for name in asked if given[name].source in {Source.FLAG, Source.ENVIRONMENT}}
    if explicit:
        return {name: text for name, text in asked.items() if name in explicit}
    if any(environ.get(name) for name in SETTINGS):
        return {}
    return asked
