"""A context and Prefect's own settings: told to Prefect's commands, or taken from a file."""

import shlex
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from spanctl.errors import ConfigurationError, UsageError
from spanctl.privatefiles import write_private
from spanctl.references import FileReference
from spanctl.settings import Contexts, Settings
from spanctl.variables import LOCAL
from spanctl_cli.context import AppContext
from spanctl_cli.output import stdout
from spanctl_cli.prompts import confirm

if TYPE_CHECKING:
    from spanctl.credentials.secret import Secret
    from spanctl.orchestration.strays import Stray

_API: Final = "prefect_api_url"


def tell(app_context: AppContext, settings: Settings, *, named: bool = False) -> None:
    """Say what Prefect's own commands need to reach an API that a file opens.

    Args:
        app_context: Who is told.
        settings: The settings of the context that names the API.
        named: Whether that context has to be named.
    """
    from spanctl.orchestration.keys import assignments

    if len(assignments(settings, settings.get(_API) or "", {})) > 1:
        context = f"-c {settings.context} " if named else ""
        line = f'eval "$(spanctl {context}context show --export)"'
        app_context.note(f"for Prefect's own commands run: {line}")


def export(settings: Settings, shaped: object) -> None:
    """Print the shell's line that Prefect's own commands need.

    Raises:
        UsageError: Another form was asked for.
        ConfigurationError: No API is set.
    """
    from spanctl.orchestration.keys import assignments

    if shaped:
        msg = "--export has a form of its own"
        raise UsageError(msg, hint="leave --output and --fields out")
    url = settings.get(_API)
    if not url:
        msg = "no Prefect API is set"
        raise ConfigurationError(msg, hint="run: spanctl local up, or set PREFECT_API_URL")
    stdout.write(f"export {' '.join(assignments(settings, url, {}))}\n")


def take_over(
    app_context: AppContext, contexts: Contexts, name: str | None, file: Path, *, yes: bool
) -> None:
    """Have a context name the API that a file of Prefect's names, and what opens it.

    What the context named before for another API goes, for it opens that one.

    Raises:
        NotFoundError: There is no such file or context.
        ConfigurationError: The file can't be read, or what it holds not be kept.
        UsageError: There is nothing to take over, or no context to take it into.
        DeclinedError: The person said no.
    """
    from spanctl.orchestration.keys import SETTINGS
    from spanctl.orchestration.strays import read

    stray = read(file.absolute())
    if stray.url is None:
        msg = f"{file} names no Prefect API"
        raise UsageError(msg, hint=f"run: spanctl context set {_API}=URL")
    if name is None or name == LOCAL:
        why = "no context is in use" if name is None else f"{LOCAL} is the local stack's context"
        make = f"spanctl context create NAME && spanctl -c NAME context import-prefect {_q(file)}"
        raise UsageError(why, hint=f"run: {make}")
    before = contexts.get(name)
    places = {SETTINGS[key]: _place(contexts, name, key) for key in stray.opens}
    references = {setting: str(FileReference(place)) for setting, place in places.items()}
    _show(app_context, stray, references, before)
    confirm(app_context, f"Take this over into the context {name}?", yes=yes)
    for key, secret in stray.opens.items():
        _keep(places[SETTINGS[key]], secret)
    rest = {key: value for key, value in before.items() if key not in SETTINGS.values()}
    contexts.with_context(name, {**rest, _API: stray.url, **references}).save()
    forget(contexts, name, but=stray.opens)
    app_context.note(f"changed: {name}")


def forget(contexts: Contexts, name: str, *, but: Container[str]) -> None:
    """Remove what was kept of files that were taken over into a context, but for these of it."""
    from spanctl.orchestration.keys import SETTINGS

    for key in SETTINGS:
        if key not in but:
            _place(contexts, name, key).unlink(missing_ok=True)


def _place(contexts: Contexts, name: str, key: str) -> Path:
    return contexts.path.parent / f"prefect-{name}-{key}"


def _show(
    app_context: AppContext,
    stray: "Stray",
    references: Mapping[str, str],
    before: Mapping[str, str],
) -> None:
    from spanctl.orchestration.keys import SETTINGS
    from spanctl.orchestration.settings import HEADERS, parse_headers

    scheme, marks, rest = (stray.url or "").rpartition("://")
    app_context.note(f"{_API} = {scheme}{marks}{rest.rpartition('@')[2]}")
    for setting, reference in references.items():
        app_context.note(f"{setting} = {reference}")
    if HEADERS in stray.opens:
        names = ", ".join(sorted(parse_headers(stray.opens[HEADERS].reveal_text())))
        app_context.note(f"headers: {names}")
    gone = [one for one in SETTINGS.values() if one in before and one not in references]
    if gone:
        app_context.note(f"no longer set, for they open another API: {', '.join(gone)}")
    if stray.others:
        app_context.note(f"not taken: {', '.join(stray.others)}")


def _keep(place: Path, secret: "Secret") -> None:
    try:
        write_private(place, secret.reveal())
    except OSError as error:
        msg = f"can't write {place}: {error.strerror}"
        raise ConfigurationError(msg, hint="SPANCTL_CONFIG_HOME names another folder") from error


def _q(path: Path) -> str:
    return shlex.quote(str(path))
