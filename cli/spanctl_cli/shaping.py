"""``--fields`` and ``--no-header`` for every command that has ``--output``, added from outside.

A command names ``--fields`` itself only where it wants the value; the output heeds both anyway.
"""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, Final

from spanctl_cli.options import FieldsOption, NoHeaderOption
from spanctl_cli.output import Shape, shaped
from spanctl_cli.output.emitter import picked_fields

_HINTS: Final[dict[str, Any]] = {"fields": FieldsOption, "no_header": NoHeaderOption}


def _check(fields: str, given: Iterable[Any]) -> None:
    """Refuse fields that the command never prints, before it does anything.

    Raises:
        UsageError: There is such a field.
    """
    from spanctl_cli import schemas

    # What Typer hands over is no typer.Context: it is of the class below, which has no public name.
    path = next((one.command_path for one in given if hasattr(one, "command_path")), "")
    if path:
        words = path.partition(" ")[2]
        schemas.check_fields(picked_fields(fields) or [], command=words)


def shapeable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a command's function with the options that shape its output, if it has an output."""
    signature = inspect.signature(function, eval_str=True)
    given = signature.parameters
    if "output" not in given or "no_header" in given:
        return function
    own = "fields" in given

    @wraps(function)
    def command(*args: Any, no_header: bool = False, **kwargs: Any) -> Any:  # noqa: ANN401 - any command's
        fields = kwargs.get("fields") if own else kwargs.pop("fields", None)
        if fields is not None:
            _check(fields, (*args, *kwargs.values()))
        with shaped(Shape(fields=fields, header=not no_header)):
            return function(*args, **kwargs)

    added = ["no_header"] if own else ["fields", "no_header"]
    defaults = {"fields": None, "no_header": False}
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]  # what Typer reads
        parameters=[
            *given.values(),
            *(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=defaults[name],
                    annotation=_HINTS[name],
                )
                for name in added
            ),
        ]
    )
    command.__annotations__ = {
        **function.__annotations__,
        **{name: _HINTS[name] for name in added},
    }
    return command
