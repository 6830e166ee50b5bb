"""What a request is: a flow and what it is called with, as one digest in each of two versions.

The flow is its name, its function with what that closes over, and the stem of its file, so that it
is the same one from another folder, as a script, and on a worker. Version 1 was lossy, and knew a
function by its qualified name only; what was kept in it is compared by it.
"""

import datetime as dt
import hashlib
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect.flows import Flow
from pydantic import Secret, SecretBytes, SecretStr

from spanctl.errors import UsageError
from spanctl.flows.identity import _Surroundings
from spanctl.ledger.canonical import canonical_bytes
from spanctl.ledger.digests import ModuleNames, part, state

if TYPE_CHECKING:
    AnyFlow = Flow[..., Any]

_FIRST: Final = "request/1"
_SECOND: Final = b"request/2"
_PRIVATE: Final = "__pydantic_private__"


def describe(flow: "AnyFlow", parameters: Mapping[str, Any] | None) -> str:
    """Return what is asked for: a digest in each version, a line each, the newest first.

    Args:
        flow: The flow.
        parameters: What it is called with, converted, defaults included; None for a runbook, which
            compares its own, and is the same in every version of spanctl.
    """
    return f"{_second(flow, parameters)}\n{_first(flow, parameters)}"


def _first(flow: "AnyFlow", parameters: Mapping[str, Any] | None) -> str:
    identity = [_FIRST, *_names(flow)]
    try:
        told = canonical_bytes([*identity, parameters])
    except UsageError:  # of a type without canonical form: as Prefect shows it
        told = canonical_bytes([*identity, flow.serialize_parameters(dict(parameters or {}))])
    return hashlib.sha256(told).hexdigest()


def _second(flow: "AnyFlow", parameters: Mapping[str, Any] | None) -> str:
    told = [part(b"N", *(name.encode() for name in _names(flow)))]
    if parameters is not None:
        loaded = {str(getattr(f, "__module__", "")) for f in (flow.fn, inspect.unwrap(flow.fn))}
        names = ModuleNames.of_run(*sorted(loaded))
        told += [
            part(b"A", (_attribute(flow) or "").encode()),
            _closure(flow, names),
            _Asked(names, _as_prefect_shows(flow)).encode(dict(parameters)),
        ]
    return hashlib.sha256(part(_SECOND, *told)).hexdigest()


def _names(flow: "AnyFlow") -> list[str]:
    function = inspect.unwrap(flow.fn)
    code = getattr(function, "__code__", None)
    stem = Path(code.co_filename).stem if code else ""
    return [flow.name, stem, getattr(function, "__qualname__", type(function).__qualname__)]


class _Asked(_Surroundings):
    """Writes what a flow is called with, or closes over: as it is, wherever that can be told."""

    def __init__(self, names: ModuleNames, show: Callable[[Any], Any]) -> None:
        """Start with nothing written.

        Args:
            names: What modules are called.
            show: Returns plain data that stands for a value without canonical form.
        """
        super().__init__(names)
        self._show = show

    def record(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of an object's fields, and which of a model's were given.

        A model's private attributes are made anew each time that it is read: nobody asks for them.
        """
        held = [
            part(b"P", name.encode(), self.encode(one))
            for name, one in state(value)
            if name != _PRIVATE
        ]
        given = part(b"F", *(str(one).encode() for one in _given(value)))
        return part(b"O", self.named(type(value)), part(b"S", *held), given)

    def other(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of a value of another type: its type, and what can be shown of it."""
        if isinstance(value, Secret | SecretStr | SecretBytes):
            return part(b"$", self.named(type(value)), self.encode(value.get_secret_value()))
        if isinstance(value, dt.tzinfo):
            told = (str(value.utcoffset(None)), str(value))
            return part(b"z", self.named(type(value)), *(text.encode() for text in told))
        try:
            return super().other(value)
        except UsageError:
            return part(b"~", self.named(type(value)), self.encode(self._show(value)))


def _given(model: Any) -> list[str]:  # noqa: ANN401 - of any type
    given = getattr(model, "model_fields_set", None)
    return sorted(given) if isinstance(given, set) else []


def _as_prefect_shows(flow: "AnyFlow") -> Callable[[Any], Any]:
    """Return a function that shows a value as Prefect does; no iterator is used up."""
    return lambda value: (
        None if isinstance(value, Iterator) else flow.serialize_parameters({"value": value})
    )


def _closure(flow: "AnyFlow", names: ModuleNames) -> bytes:
    """Return the bytes of what a flow's function closes over; its defaults are parameters.

    Of what has no canonical form, such as a client or a lock, only the type counts.
    """
    encoder = _Asked(names, lambda _: None)
    if isinstance(flow.fn, types.FunctionType):
        return encoder.function(flow.fn, frozenset(inspect.signature(flow.fn).parameters))
    return encoder.encode(flow.fn)


def _attribute(flow: "AnyFlow") -> str | None:
    """Return the name by which a module has a flow that its qualified name doesn't lead to.

    So are told apart what a factory made, and functions that were defined again under one name.
    """
    function = inspect.unwrap(flow.fn)
    home: dict[str, Any] = getattr(function, "__globals__", {})
    found: Any = home
    for name in str(getattr(function, "__qualname__", "")).split("."):
        found = (found if isinstance(found, dict) else getattr(found, "__dict__", {})).get(name)
    if found is flow.fn or _is_of(found, flow.fn):
        return None
    for space in (home, *(vars(module) for module in list(sys.modules.values()))):
        if named := sorted(name for name, one in list(space.items()) if _is_of(one, flow.fn)):
            return named[0]
    return None


def _is_of(thing: object, function: Callable[..., Any]) -> bool:
    """Tell whether a thing is a flow of a function; nothing that it defines is called."""
    return issubclass(type(thing), Flow) and thing.fn is function  # type: ignore[attr-defined]
