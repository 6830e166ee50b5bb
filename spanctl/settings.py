"""Where things are: contexts in a TOML file, and where each setting's value came from.

A setting is looked for in a flag, then the environment, then the context, then a default. A
*context* names a database, how to reach it, and the Prefect API that orchestrates its runs.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from spanctl.errors import ConfigurationError, NotFoundError, UsageError
from spanctl.privatefiles import write_private
from spanctl.resources import DatabaseName
from spanctl.variables import CONTEXT_VARIABLE, LOCAL, UNIVERSE, VARIABLES, Variable


class Source(StrEnum):
    """Where a setting's value came from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    CONTEXT = "context"
    DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """One resolved setting: its name, its value (None when unset) and the value's source.

    ``origin`` says where exactly: the flag, the variable's name, or the context file's path.
    """

    name: str
    value: str | None
    source: Source
    origin: str


def config_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the context file (``SPANCTL_CONFIG_HOME``, else the XDG one)."""
    if explicit := environ.get("SPANCTL_CONFIG_HOME"):
        return Path(explicit)
    base = environ.get("XDG_CONFIG_HOME") or str(Path(environ.get("HOME") or "~") / ".config")
    return Path(base).expanduser() / "spanctl"


def state_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of what spanctl keeps (``SPANCTL_STATE_HOME``, else the XDG one)."""
    if explicit := environ.get("SPANCTL_STATE_HOME"):
        return Path(explicit)
    base = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "~") / ".local/state")
    return Path(base).expanduser() / "spanctl"


@dataclass(frozen=True, slots=True)
class Contexts:
    """The context file: named contexts and which of them is in use.

    Attributes:
        path: The TOML file.
        current: The name of the context in use, None when none was chosen.
        contexts: Context name to its settings (setting name to value).
    """

    path: Path
    current: str | None = None
    contexts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path | None = None) -> "Contexts":
        """Read the file; a file that doesn't exist is one without contexts.

        Raises:
            ConfigurationError: The file is no valid context file.
        """
        path = path or config_home() / "contexts.toml"
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(path)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            msg = f"can't read the contexts in {path}: {error}"
            raise ConfigurationError(msg, hint="mend or remove that file") from error
        contexts, current = data.get("contexts", {}), data.get("current")
        if not isinstance(contexts, dict) or not isinstance(current, str | None):
            msg = f"{path} is no context file: current is a name, and contexts are tables"
            raise ConfigurationError(msg, hint="mend or remove that file")
        for name, values in contexts.items():
            if not isinstance(values, dict):
                msg = f"context {name!r} in {path} is no table of settings"
                raise ConfigurationError(msg, hint="mend or remove that file")
            known = set(values).difference(cls.unknown_in(values))
            wrong = sorted(key for key in known if not isinstance(values[key], str))
            if wrong:
                msg = f"context {name!r} in {path} has values that are no text: {', '.join(wrong)}"
                raise ConfigurationError(msg, hint="write each value in quotes")
        return cls(path, current, contexts)

    @staticmethod
    def unknown_in(values: Iterable[str]) -> tuple[str, ...]:
        """Return the names among these that no setting has; sorted.

        A newer spanctl may know them, so that they are kept, and stop nothing.
        """
        return tuple(sorted(set(values) - {variable.name for variable in VARIABLES}))

    def save(self) -> None:
        """Write the file, owner-only, whole or not at all."""
        import tomli_w

        data: dict[str, object] = {"current": self.current} if self.current else {}
        data["contexts"] = {name: dict(values) for name, values in self.contexts.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(self.path, tomli_w.dumps(data).encode())

    def with_context(self, name: str, values: Mapping[str, str]) -> "Contexts":
        """Return a copy in which ``name`` has exactly these settings."""
        return Contexts(self.path, self.current, {**self.contexts, name: dict(values)})

    def without_context(self, name: str) -> "Contexts":
        """Return a copy that lacks ``name``; ``current`` is unset if it was that one."""
        rest = {key: value for key, value in self.contexts.items() if key != name}
        return Contexts(self.path, None if self.current == name else self.current, rest)

    def using(self, name: str) -> "Contexts":
        """Return a copy in which ``name`` is in use.

        Raises:
            NotFoundError: There is no such context.
        """
        self.get(name)
        return Contexts(self.path, name, self.contexts)

    def get(self, name: str) -> Mapping[str, str]:
        """Return the settings of a context.

        Raises:
            NotFoundError: There is no such context; the hint lists those that exist.
        """
        try:
            return self.contexts[name]
        except KeyError:
            from difflib import get_close_matches

            close = get_close_matches(name, self.contexts, n=1)
            msg = f"there is no context {name!r}"
            if close:
                msg += f"; did you mean {close[0]!r}?"
            raise NotFoundError(msg, hint=_listing(self.contexts)) from None


def _listing(names: Iterable[str]) -> str:
    known = ", ".join(sorted(names))
    if known:
        return f"known are: {known}"
    return "run: spanctl local up, or: spanctl context create NAME"


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting with its value and source, as one run of a command sees them.

    Attributes:
        context: The name of the context in use, None when there is none.
        context_source: How that context was chosen.
        values: Setting name to the resolved :class:`Setting`.
        unknown: What the context holds besides, which no setting is called; it has no effect.
    """

    context: str | None
    context_source: Source
    values: Mapping[str, Setting]
    unknown: tuple[str, ...] = ()

    def get(self, name: str) -> str | None:
        """Return a setting's value, None when it is unset."""
        return self.values[name].value

    def require(self, name: str) -> str:
        """Return a setting's value.

        Raises:
            ConfigurationError: The setting is unset; the hint says how to set it.
        """
        value = self.values[name].value
        if value:
            return value
        hint = "run: spanctl local up, or: spanctl context create NAME"
        if self.context:
            hint = f"run: spanctl context set {name}=VALUE"
        msg = f"no {name} is set"
        raise ConfigurationError(msg, hint=hint)

    @property
    def database(self) -> DatabaseName:
        """The database that commands work on.

        Raises:
            ConfigurationError: Project, instance or database is unset.
            UsageError: Their values form no valid name.
        """
        return DatabaseName(
            self.require("project"), self.require("instance"), self.require("database")
        )

    @property
    def is_local(self) -> bool:
        """Whether the context in use is the one of the local stack."""
        return self.context == LOCAL


def resolve(
    *,
    context: str | None = None,
    flags: Mapping[str, str | None] | None = None,
    environ: Mapping[str, str] = os.environ,
    contexts: Contexts | None = None,
) -> Settings:
    """Resolve every setting: flag, then environment, then context file, then default.

    The context is the one that a flag names, else ``SPANCTL_CONTEXT``, else the one in use, else
    ``local`` if it exists.

    Args:
        context: Name given by a flag.
        flags: Setting name to a value given by a flag (None: not given).
        environ: The environment to look in.
        contexts: The loaded context file; read from its usual place when left out.

    Raises:
        ConfigurationError: The context file can't be read, or a setting that has to be a
            reference is none.
        NotFoundError: The chosen context doesn't exist.
        UsageError: A flag names no setting.
    """
    contexts = contexts or Contexts.load(config_home(environ) / "contexts.toml")
    name, source = _chosen(context, environ, contexts)
    stored = contexts.get(name) if name else {}
    flags = flags or {}
    if unknown := set(flags) - {variable.name for variable in VARIABLES}:
        msg = f"unknown settings: {', '.join(sorted(unknown))}"
        raise UsageError(msg)
    values = {
        variable.name: _one(variable, flags, environ, stored, f"{name} in {contexts.path}")
        for variable in VARIABLES
    }
    return Settings(name, source, _in_universe(values), Contexts.unknown_in(stored))


def _in_universe(values: dict[str, Setting]) -> dict[str, Setting]:
    """Return the settings with the endpoints that nobody set in the universe that is set."""
    universe = values["universe_domain"].value or UNIVERSE
    suffix = f".{UNIVERSE}"
    return {
        name: replace(one, value=one.value.removesuffix(UNIVERSE) + universe)
        if one.source is Source.DEFAULT and one.value and one.value.endswith(suffix)
        else one
        for name, one in values.items()
    }


def chosen(
    contexts: Contexts, flag: str | None = None, environ: Mapping[str, str] = os.environ
) -> str | None:
    """Return the name of the context that :func:`resolve` would take, whatever is in it."""
    return _chosen(flag, environ, contexts)[0]


def _chosen(
    flag: str | None, environ: Mapping[str, str], contexts: Contexts
) -> tuple[str | None, Source]:
    if flag:
        return flag, Source.FLAG
    if named := environ.get(CONTEXT_VARIABLE):
        return named, Source.ENVIRONMENT
    if contexts.current:
        return contexts.current, Source.CONTEXT
    return (LOCAL if LOCAL in contexts.contexts else None), Source.DEFAULT


def _one(
    variable: Variable,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    stored: Mapping[str, str],
    origin: str,
) -> Setting:
    if flag := flags.get(variable.name):
        where = f"--{variable.name.replace('_', '-')}"
        return Setting(variable.name, variable.checked(flag, where), Source.FLAG, where)
    for key in variable.environment:
        if value := environ.get(key):
            return Setting(variable.name, variable.checked(value, key), Source.ENVIRONMENT, key)
    if value := stored.get(variable.name):
        return Setting(variable.name, variable.checked(value, origin), Source.CONTEXT, origin)
    return Setting(variable.name, variable.default, Source.DEFAULT, "default")
