"""Checks of what lies on this machine: settings, the permissions of files, dependencies."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Final

from spanctl.errors import ConfigurationError, NotFoundError
from spanctl.health.model import Answer, fail, ok, warn
from spanctl.health.surroundings import Surroundings
from spanctl.settings import Contexts, Settings, Source, chosen, config_home, state_home
from spanctl.variables import CONTEXT_VARIABLE, LOCAL

_UP: Final = "spanctl local up"
_OTHERS_WRITE: Final = 0o022
_OTHERS: Final = 0o077
_MODE: Final = 0o777
_REQUIREMENT: Final = re.compile(r"^([A-Za-z0-9._-]+)([^;]*)")
_BOUND: Final = re.compile(r"(<=|>=|==|!=|~=|<|>)\s*([0-9.]+)")
_BREAKS: Final = {
    "fastapi": ("0.151", "Prefect's server does not start, or answers 422 to its own client"),
}
"""Distribution to the version from which on it is known to break, and how."""


def settings(around: Surroundings) -> Answer:
    """Say where settings came from that aren't defaults."""
    try:
        found = around.settings()
    except ConfigurationError as error:
        return fail(ConfigurationError(error.message, hint=f"run: {_mended(around, error)}"))
    except NotFoundError as error:
        return fail(NotFoundError(error.message, hint=_chosen_anew(around, error)))
    given = [one for one in found.values.values() if one.source is not Source.DEFAULT]
    counted = Counter(one.source.value for one in given)
    told = ", ".join(f"{count} from the {source}" for source, count in sorted(counted.items()))
    path = config_home(around.environ) / "contexts.toml"
    shown = str(path) if path.exists() else f"no {path}"
    facts = {
        "sources": {one.name: one.origin for one in given},
        "contexts_file": str(path),
        "unknown": list(found.unknown),
    }
    if found.unknown and found.context:
        names = ", ".join(found.unknown)
        told = f"context {found.context} has settings that spanctl doesn't know: {names}"
        return warn(told, unsetting(found.context, found.unknown), **facts)
    return ok(f"{told or 'all are defaults'}; {shown}", **facts)


def _mended(around: Surroundings, error: ConfigurationError) -> str:
    """Return the command that mends settings which can't be read, and loses none of them."""
    path = config_home(around.environ) / "contexts.toml"
    origin, name = str(error.details.get("origin", "")), str(error.details.get("setting"))
    if origin in around.environ:
        return f"unset {origin}"
    if not origin:
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.broken')}"
        return f"{aside} && {_UP}" if _has_stack(around) else aside
    context = origin.partition(" in ")[0]
    return unsetting(context, [name]) + (f" && {_UP}" if context == LOCAL else "")


def unsetting(context: str, names: Iterable[str]) -> str:
    """Return the command that takes settings out of a context."""
    gone = " ".join(shlex.quote(f"{name}=") for name in names)
    return f"spanctl --context {shlex.quote(context)} context set {gone}"


def _chosen_anew(around: Surroundings, error: NotFoundError) -> str:
    """Return what mends that the context which is chosen doesn't exist."""
    contexts = Contexts.load(config_home(around.environ) / "contexts.toml")
    if chosen(contexts, None, around.environ) in contexts.contexts:
        return error.hint  # a flag named it
    if around.environ.get(CONTEXT_VARIABLE):
        return f"run: unset {CONTEXT_VARIABLE}"
    others = sorted(contexts.contexts, key=lambda name: (name != LOCAL, name))
    begin = "" if others else f"{_UP} && "
    return f"run: {begin}spanctl context use {shlex.quote(others[0] if others else LOCAL)}"


def _has_stack(around: Surroundings) -> bool:
    return (state_home(around.environ) / "local" / "stack.json").exists()


def context(around: Surroundings) -> Answer:
    """Say which context is in use, and which database it names."""
    found = around.settings()
    try:
        database = found.database  # says what to type when none is set
    except ConfigurationError as error:
        if found.context:
            raise
        told = f"{error.message}; one that is elsewhere is named by: spanctl context create"
        return fail(ConfigurationError(told, hint=error.hint))
    where = f"{found.context} (by {found.context_source})" if found.context else "none"
    return ok(
        f"{where}, {database}",
        context=found.context,
        context_source=found.context_source.value,
        database=str(database),
    )


def files(around: Surroundings) -> Answer:
    """Say whether files can be read, and whether others could read or change them."""
    found = around.settings()
    for name in ("ca_file", "adc_file"):
        if found.get(name):
            _readable(found, name)
    if found.get("ca_file"):
        _holds_roots(found)
    loose: list[tuple[Path, str, str]] = []
    for path, secret in _kept(around):
        mode = _mode(path)
        if mode is not None and (wrong := mode & (_OTHERS if secret else _OTHERS_WRITE)):
            what = "changed" if wrong & _OTHERS_WRITE else "read"
            flags = "go-rwx" if secret else "go-w"
            loose.append((path, f"{path} ({mode:03o}) can be {what} by others", flags))
    modes = {str(path): f"{_mode(path) or 0:03o}" for path, _ in _kept(around) if path.exists()}
    if loose:
        told = "; ".join(words for _, words, _ in loose)
        mend = " && ".join(f"chmod {flags} {shlex.quote(str(path))}" for path, _, flags in loose)
        return warn(told, mend, modes=modes)
    count = len(modes)
    return ok(f"{count} file{'' if count == 1 else 's'}, safe from others", modes=modes)


def _readable(found: Settings, name: str) -> None:
    path = Path(found.require(name))
    try:
        with path.open("rb"):
            return
    except OSError as error:
        msg = f"{name} {path} can't be read: {error.strerror}"
        raise ConfigurationError(msg, hint=_without(found, name)) from error


def _holds_roots(found: Settings) -> None:
    import ssl

    path = Path(found.require("ca_file"))
    try:
        ssl.create_default_context(cafile=str(path))
    except (OSError, ValueError) as error:
        msg = f"ca_file {path} holds no certificates that can be used"
        raise ConfigurationError(msg, hint=_without(found, "ca_file")) from error


def _without(found: Settings, name: str) -> str:
    """Return what has a setting that can't be used forgotten, or made again by the stack."""
    given = found.values[name]
    if given.source is Source.ENVIRONMENT:
        return f"run: unset {given.origin}"
    if found.is_local or found.context is None:
        return f"run: {_UP}"
    return f"run: {unsetting(found.context, [name])}"


def _kept(around: Surroundings) -> list[tuple[Path, bool]]:
    """Return what is kept on this machine, and whether it is for the owner's eyes only."""
    environ, found = around.environ, around.settings()
    kept = [
        (config_home(environ), False),
        (config_home(environ) / "contexts.toml", False),
        (state_home(environ), False),
        (state_home(environ) / "local", True),
    ]
    home = Path(environ.get("HOME", "~")).expanduser()
    explicit = found.get("adc_file") or environ.get("GOOGLE_APPLICATION_CREDENTIALS")
    usual = home / ".config" / "gcloud" / "application_default_credentials.json"
    kept.append((Path(explicit) if explicit else usual, True))
    profiles = Path(environ.get("PREFECT_HOME") or home / ".prefect") / "profiles.toml"
    if _holds_key(profiles):
        kept.append((profiles, True))
    return kept


def _holds_key(profiles: Path) -> bool:
    try:
        text = profiles.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "PREFECT_API_KEY" in text or "PREFECT_API_AUTH_STRING" in text


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode & _MODE
    except OSError:
        return None


# -- dependencies


def dependencies() -> Answer:
    """Say whether what is installed is what spanctl is known to work with."""
    try:
        wanted = metadata.requires("spanctl") or []
    except metadata.PackageNotFoundError:
        return warn("spanctl itself is not installed, so its requirements are not known")
    versions: dict[str, str] = {}
    odd: list[str] = []
    asked: dict[str, str] = {}
    for line in wanted:
        match = _REQUIREMENT.match(line)
        if match is None or "extra ==" in line:
            continue
        name, bounds = match.group(1), match.group(2).strip()
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            return fail(
                ConfigurationError(f"{name} is not installed", hint=_install(name, bounds)),
                versions=versions,
            )
        if not fits(versions[name], bounds):
            odd.append(name)
            asked[name] = bounds
    for name in odd:
        least, why = _BREAKS.get(name, ("", ""))
        if least and numbers(versions[name]) >= numbers(least):
            msg = f"{name} {versions[name]}: {why}"
            return fail(
                ConfigurationError(msg, hint=_install(name, asked[name])), versions=versions
            )
    if odd:
        told = ", ".join(f"{name} {versions[name]} (tested: {asked[name]})" for name in odd)
        mend = f"pip install {' '.join(_quoted(name, asked[name]) for name in odd)}"
        return warn(told, mend, versions=versions)
    return ok(f"{len(versions)} packages within their tested versions", versions=versions)


def _quoted(name: str, bounds: str) -> str:
    return f"'{name}{bounds}'"


def _install(name: str, bounds: str) -> str:
    return f"run: pip install {_quoted(name, bounds)}"


def numbers(version: str) -> tuple[int, ...]:
    """Return the release of a version: ``3.8.8rc1`` gives ``(3, 8, 8)``; zeros at its end go."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    parts = [int(part) for part in match.group().split(".")] if match else []
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def fits(version: str, bounds: str) -> bool:
    """Tell whether a version is within bounds such as ``>=1.2,<2``."""
    have = numbers(version)
    for sign, text in _BOUND.findall(bounds):
        want = numbers(text)
        holds = {
            "<": have < want,
            "<=": have <= want,
            ">": have > want,
            ">=": have >= want,
            "==": have == want,
            "!=": have != want,
            "~=": have >= want,
        }
        if not holds[sign]:
            return False
    return True
