"""Check of the local stack, and what the other parts have to do with it."""

import shlex
from collections.abc import Mapping
from typing import Final

from spanctl.errors import ConfigurationError, ConflictError, SpanctlError, UnreachableError
from spanctl.health.model import Answer, fail, ok, unsupported
from spanctl.health.surroundings import Surroundings
from spanctl.local.stack import Stack
from spanctl.settings import Settings, Source

UP: Final = "spanctl local up"
RENEW: Final = f"spanctl local down && {UP}"

_REACHED: Final = ("project", "instance", "database", "spanner_endpoint", "emulator_host")
_LOGGED_IN: Final = ("credentials", "adc_file", "ca_file", "iam_endpoint", "secretmanager_endpoint")
_SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "files": ("ca_file", "adc_file"),
    "credentials": _LOGGED_IN,
    "database": _REACHED,
    "prefect": ("prefect_api_url",),
    "workers": ("work_pool",),
}
"""Part of the doctor's to the settings that lead to what it looks at."""

_SERVED: Final[Mapping[str, tuple[str, ...]]] = {
    "credentials": ("identity",),
    "database": ("emulator", "identity"),
    "prefect": ("server",),
    "workers": ("worker",),
}
"""Part of the doctor's to the parts of the stack that serve it."""


def stack(around: Surroundings) -> Answer:
    """Say whether each part of the local stack does its work; of no other context."""
    if not around.settings().is_local:
        return unsupported("the context in use is another one than local")
    own = Stack(environ=around.environ)
    if not own.is_known:
        return _unknown(own)
    try:
        found = around.troubles()
    except ConfigurationError as error:
        told = f"{error.message}; its processes, and the emulator's data, end with the mend"
        return fail(ConflictError(told, hint=f"run: {RENEW}"))
    if not found:
        return ok("each of its parts does its work")
    told = "; ".join(f"{name} {trouble.reason}" for name, trouble in found.items())
    hint = next((one.hint for one in found.values() if one.hint), f"run: {UP}")
    return fail(UnreachableError(told, hint=hint), parts=sorted(found))


def _unknown(own: Stack) -> Answer:
    if strays := own.strays():
        msg = f"{len(strays)} processes of the stack run, but {own.folder.state_file} is gone"
        return fail(ConflictError(msg, hint=f"run: {UP}"), processes=sorted(strays))
    return unsupported(f"no stack was started in {own.folder.path}")


def is_in_trouble(around: Surroundings, part: str) -> bool:
    """Tell whether what a part looks at is served by something of the stack that is in trouble."""
    serving = _SERVED.get(part)
    if not serving:
        return False
    try:
        settings = around.settings()
        if not settings.is_local or any(_astray(around, settings, part).values()):
            return False
        return bool(set(serving) & set(around.troubles()))
    except SpanctlError:
        return False  # told by the checks of the settings and of the stack


def explained(around: Surroundings, part: str, error: SpanctlError) -> SpanctlError:
    """Return an error with what mends it in the local context, where that is known better."""
    settings = around.settings()
    if not settings.is_local or part not in _SETTINGS:
        return error
    told, hint = error.message, error.hint
    astray = _astray(around, settings, part)
    if names := astray[Source.ENVIRONMENT]:
        told = f"{told}; {' and '.join(names)} in the environment leads elsewhere than local"
        hint = f"run: unset {' '.join(map(shlex.quote, names))}"
    elif (names := astray[Source.CONTEXT]) and "spanctl creds rotate" not in hint:
        told = f"{told}; the stack's own {' and '.join(names)} is another"
        hint = f"run: {UP}"
    elif isinstance(error, UnreachableError):
        hint = f"run: {UP}"
    return type(error)(told, hint=hint, **error.details)


def _astray(around: Surroundings, settings: Settings, part: str) -> dict[Source, list[str]]:
    """Return what leads elsewhere than to the stack: variables, and settings of the context."""
    try:
        wanted = around.local_context()
    except ConfigurationError:
        wanted = {}
    found: dict[Source, list[str]] = {Source.ENVIRONMENT: [], Source.CONTEXT: []}
    for name in _SETTINGS[part] if wanted else ():
        given = settings.values[name]
        if given.value == wanted.get(name, given.value if given.source is Source.DEFAULT else None):
            continue
        if given.source is Source.ENVIRONMENT:
            found[Source.ENVIRONMENT].append(given.origin)
        elif given.source is not Source.FLAG:
            found[Source.CONTEXT].append(name)
    return found
