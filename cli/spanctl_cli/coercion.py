"""Values of options and arguments, read without Pydantic where it would come to the same.

Typer imports it to read any value that isn't a flag's, even None or the text of a ``str``: a third
of what a light command takes. What isn't plain here, mistakes included, is left to Typer.
"""

import re
from enum import Enum
from typing import Any

import typer

_NOT_PLAIN = object()
_DIGITS = re.compile("[0-9]{1,18}")


class PlainValues:
    """A mix-in for Typer's commands and groups: their parameters read plain values themselves."""

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - Typer's vendored types
        """Return the parameters, ``--help`` with them."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class mixed with
        for param in params:
            if getattr(param, "_runtime_param", None) is None:
                param._runtime_param = _PLAIN  # noqa: SLF001 - Typer has no other place for it
        return params


class _Plain:
    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ANN401 - Typer's
        _refuse_other_encodings(value, param, ctx)
        read = plain(value, param)
        if read is not _NOT_PLAIN:
            return read
        param._runtime_param = None  # noqa: SLF001 - so that Typer makes its own
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


_PLAIN = _Plain()


def _refuse_other_encodings(value: Any, param: Any, ctx: Any) -> None:  # noqa: ANN401 - Typer's
    """Refuse an option's text that is not UTF-8: no message, receipt or server could hold it.

    Files may have such names: paths and arguments are left alone.
    """
    annotation = param.type_descriptor.annotation
    is_text = annotation in {str, list[str]} and param.metavar != "PATH"
    if param.param_type_name != "option" or not is_text:
        return
    for text in [value] if isinstance(value, str) else value or ():
        if isinstance(text, str) and not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                msg = "it is not UTF-8"
                raise typer.BadParameter(msg, ctx=ctx, param=param) from None


def plain(value: Any, param: Any) -> Any:  # noqa: ANN401 - anything may be given, and read
    """Return the value of a parameter as Typer reads it; a sentinel where only Typer can say."""
    annotation, info = param.type_descriptor.annotation, param.type_descriptor.parameter_info
    many = param.multiple or param.nargs == -1
    if value is None:
        return () if many else None
    if info.parser is not None:
        return _NOT_PLAIN
    if many:
        texts = isinstance(value, list | tuple) and all(type(one) is str for one in value)
        return list(value) if texts and annotation == list[str] else _NOT_PLAIN
    return _one(value, annotation, info)


def _one(value: Any, annotation: Any, info: Any) -> Any:  # noqa: ANN401
    if annotation in {str, bool} and type(value) is annotation:
        return value
    if annotation is int and info.max is None and not info.clamp:
        number = int(value) if type(value) is str and _DIGITS.fullmatch(value) else value
        return number if type(number) is int and number >= (info.min or 0) else _NOT_PLAIN
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next((one for one in annotation if value in (one, one.value)), _NOT_PLAIN)
    return _NOT_PLAIN
