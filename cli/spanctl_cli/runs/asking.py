"""``spanctl run TARGET...``: which way each target is run, and what they are run with."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from spanctl import clock, textfiles
from spanctl.errors import UsageError
from spanctl_cli.context import AppContext
from spanctl_cli.runs import Asked

_LARGEST: Final = 10 * 1024 * 1024
_FORMS: Final = {".json": "JSON", ".toml": "TOML", ".yaml": "YAML", ".yml": "YAML"}


def run(app: AppContext, targets: Sequence[str], asked: Asked) -> None:
    """Run a flow in this process, or deployments on their workers.

    Raises:
        UsageError: What was asked for fits only deployments, or only one target; or one is named
            twice.
        SpanctlError: As the run ended.
    """
    if asked.resume is not None:
        from spanctl_cli.runs import resumed

        resumed.run(app, replace(asked, target=", ".join(targets)))
        return
    if not targets:
        msg = "there is nothing to run"
        raise UsageError(msg, hint="name path.py:flow, package.module:flow, or a deployment")
    if twice := next((one for one in targets if targets.count(one) > 1), None):
        msg = f"{twice} is given twice"
        raise UsageError(msg, hint="for two runs of it, type two commands")
    each = [replace(asked, target=target) for target in targets]
    if all(one.is_deployment for one in each):
        from spanctl_cli.runs import deployments, several

        if len(each) == 1:
            deployments.run(app, each[0])
        else:
            several.run(app, each)
        return
    if len(each) > 1:
        msg = "several targets are deployments, each of them; a flow runs here alone"
        raise UsageError(msg, hint="run them one by one")
    _refuse_here(asked)
    from spanctl_cli.runs import in_process

    in_process.run(app, each[0])


def _refuse_here(asked: Asked) -> None:
    given = {
        "--tag": asked.tags,
        "--job-variable": asked.job_variables,
        "--at and --in": asked.due,
    }
    for option, value in given.items():
        if value:
            msg = f"{option} is for deployments; a flow in a file or module runs here, and now"
            raise UsageError(msg, hint="make it a deployment, or leave the option out")


def due(at: str | None, after: float | None) -> datetime | None:
    """Return when a run is to start; None for now.

    Raises:
        UsageError: Both were given, or a time that is none or over.
    """
    if at is not None and after is not None:
        msg = "--at and --in both say when"
        raise UsageError(msg, hint="pass one of the two")
    if after is not None:
        try:
            return clock.now() + timedelta(seconds=after)
        except OverflowError:
            msg = "that is too far ahead"
            raise UsageError(msg, hint="write --in 30s, 5m or 2h") from None
    if at is None:
        return None
    found = clock.parse_rfc3339(at)
    if found <= clock.now():
        msg = f"{at} is over"
        raise UsageError(msg, hint="leave --at out to run it now")
    return found


def from_file(path: Path) -> Mapping[str, Any]:
    """Read parameters from a file of JSON, TOML or YAML, by its name's ending.

    Returns:
        Its names and values; numbers with a fraction or an exponent are exact Decimals.

    Raises:
        UsageError: It can't be read, or holds something else than names and values. Messages quote
            nothing of it.
    """
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        msg = f"what {path} is written in isn't known"
        raise UsageError(msg, hint=f"name it so that it ends in {', '.join(_FORMS)}")
    try:
        if path.stat().st_size > _LARGEST:
            msg = f"{path} is larger than 10 MiB"
            raise UsageError(msg, hint="pass the name of a file as a parameter instead")
        found = _READERS[form](textfiles.decoded(path.read_bytes(), path))
    except OSError as error:
        msg = f"can't read {path}: {error.strerror or 'it failed'}"
        raise UsageError(msg) from None
    except _TwiceError:
        msg = f"{path} gives a name twice"
        raise UsageError(msg, hint="leave all but one of its values out") from None
    except (ValueError, RecursionError):
        found = None
    try:
        json.dumps(found, default=_written)
    except (TypeError, ValueError):
        msg = f"{path} holds values that JSON lacks"
        raise UsageError(msg, hint="write times and the like as text, in quotes") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        msg = f"{path} is no {form} of parameter names and values"
        raise UsageError(msg, hint="write an object at the top: its members are the parameters")
    return found


class _TwiceError(Exception):
    """A name stands twice in one object: whichever value counts, a person may mean the other."""


def _once(pairs: Sequence[tuple[Any, Any]]) -> dict[Any, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _TwiceError
    return found


def _written(value: object) -> str:
    """Return what JSON can hold in place of a Decimal, which is settled by what takes it."""
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _json(text: str) -> Any:  # noqa: ANN401 - a document
    from spanctl.orchestration import exact

    return exact.load(text, object_pairs_hook=_once)


def _toml(text: str) -> Any:  # noqa: ANN401 - a document
    import tomllib

    return tomllib.loads(text, parse_float=Decimal)


def _yaml(text: str) -> Any:  # noqa: ANN401 - a document
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # untyped
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:  # noqa: ANN401
            _once([(f"{key.tag} {key.value}", None) for key, _ in node.value])
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

        def construct_yaml_float(self, node: Any) -> Any:  # noqa: ANN401
            try:
                return Decimal(self.construct_scalar(node).replace("_", ""))
            except InvalidOperation:  # .inf, .nan, and numbers to the base of 60
                return Decimal(super().construct_yaml_float(node))

    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe one
    except yaml.YAMLError as error:
        raise ValueError from error


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "JSON": _json,
    "TOML": _toml,
    "YAML": _yaml,
}
