"""The identity of a step, taken at its call: its function, its closure and its defaults."""

import functools
import hashlib
import inspect
import io
import threading
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from weakref import ref

from prefect.flows import Flow
from prefect.tasks import Task

from spanctl.errors import UsageError
from spanctl.ledger.digests import Encoder, ModuleNames, code_digest, part, state, stem
from spanctl.ledger.step_identity import StepIdentity

if TYPE_CHECKING:
    from spanctl.flows.body import Step

_CLAIMS: Final = 10_000
_LAMBDA: Final = "<lambda>"
_LOCAL: Final = "<locals>"
_SCALARS: Final = (bool, int, float, str, bytes)
_METHODS: Final = (types.FunctionType, property, staticmethod, classmethod)
_OF_CLASSES: Final = frozenset({"_abc_impl"})
"""What a class has of Python's own."""


class _Surroundings(Encoder):
    """Writes what a function sees besides its arguments; functions count by their names."""

    def __init__(self, names: ModuleNames, *, strict: bool = True) -> None:
        super().__init__(names)
        self._strict = strict

    def function(self, function: types.FunctionType, ignored: frozenset[str]) -> bytes:
        """Return the bytes of a function's closure and defaults; empty when it has neither."""
        parts = [part(b"k", name.encode(), self._cell(cell)) for name, cell in _cells(function)] + [
            part(b"=", name.encode(), self.encode(value))
            for name, value in _defaults(function)
            if name not in ignored
        ]
        return part(b"(", *parts) if parts else b""

    def again(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        return part(b"^", type(value).__qualname__.encode())

    def other(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        match value:
            case types.FunctionType():
                code = code_digest(value.__code__) if value.__name__ == _LAMBDA else b""
                return part(b")", self.named(value), self.function(value, frozenset()), code)
            case types.ModuleType():
                written = part(b"%", self.names.of(value.__name__).encode())
            case types.MethodType():
                written = part(b".", self.encode(value.__self__), self.encode(value.__func__))
            case types.BuiltinFunctionType() if not _is_static(value):
                written = part(b":", self.encode(value.__self__), value.__name__.encode())
            case type() if _LOCAL in value.__qualname__:
                written = self._made_here(value)
            case type() | types.BuiltinFunctionType() | types.MethodDescriptorType():
                written = self.named(value)
            case functools.partial():
                bound = (value.func, value.args, value.keywords)
                written = part(b"|", *map(self.encode, bound))
            case Task() | Flow():
                step: Step | None = getattr(value, "step", None)
                written = self.encode(step.function if step is not None else value.fn)
            case _ if self._strict or _is_consumed(value):
                written = super().other(value)
            case _:
                written = part(b"~", self.named(type(value)), *self._plain(value))
        return written

    def _made_here(self, kind: type) -> bytes:
        """Write a class that a function makes anew: each of them may have other attributes."""
        bases = [self.encode(base) for base in kind.__bases__]
        parts = [
            part(b"P", name.encode(), self._member(item))
            for name, item in sorted(vars(kind).items())
            if name not in _OF_CLASSES and (not _is_dunder(name) or isinstance(item, _METHODS))
        ]
        return part(b"K", self.named(kind), part(b"B", *bases), *parts)

    def _member(self, member: Any) -> bytes:  # noqa: ANN401 - of any type
        match member:
            case property():
                return part(b"@", *map(self.encode, (member.fget, member.fset, member.fdel)))
            case staticmethod() | classmethod():
                return part(b"!", self.named(type(member)), self.encode(member.__func__))
            case _:
                return self.encode(member)

    def _plain(self, value: Any) -> Iterator[bytes]:  # noqa: ANN401 - of any type
        """Write the plain values that an object without a form holds: often its configuration."""
        for name, item in state(value):
            if item is None or isinstance(item, _SCALARS):
                yield part(b"P", name.encode(), self.encode(item))

    def _cell(self, cell: types.CellType) -> bytes:
        try:
            value = cell.cell_contents
        except ValueError:  # not filled yet
            return b"-"
        return self.encode(value)


def identify(
    step: "Step", names: ModuleNames, *, within: str, path: tuple[str, ...], fixed: bool
) -> StepIdentity:
    """Return the identity of a step that is called.

    Args:
        step: The step.
        names: What modules are called in this run.
        within: In what a name stands for one function: a run, or outside of runs a call.
        path: Subflows down to the call of a key.
        fixed: Whether the path's ordinals are the same on every attempt.

    Raises:
        UsageError: Its closure has no canonical form and it has no name of its own, or two
            functions claim one name.
    """
    function: Any = step.function
    module = _module(function, names)
    surroundings = surroundings_of(step, names)
    if step.pinned:
        known_as = f"{module}:{step.name}="
        _claim(within, known_as, step, _Surroundings(names, strict=False))
        return StepIdentity(function=known_as, path=path, fixed=fixed)
    known_as = f"{module}:{function.__qualname__}"
    _claim(within, f"{known_as} {hashlib.sha256(surroundings).hexdigest()}", step, None)
    return StepIdentity(function=known_as, surroundings=surroundings, path=path, fixed=fixed)


def _module(function: types.FunctionType, names: ModuleNames) -> str:
    """Return what a function's module is called, and its file where that says something else.

    Several files may be loaded under one name, as plugins are.
    """
    module = names.of(function.__module__)
    file = stem(inspect.unwrap(function).__code__.co_filename)
    return module if module.partition(" ")[0].rpartition(".")[2] == file else f"{module}@{file}"


class _Contents(_Surroundings):
    """Writes the containers of a closure alone: objects in it may count, log and be called."""

    def __init__(self, names: ModuleNames) -> None:
        super().__init__(names, strict=False)

    def record(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        held = [
            part(b"P", name.encode(), self.encode(item))
            for name, item in state(value)
            if not (item is None or isinstance(item, _SCALARS))
        ]
        return part(b"~", self.named(type(value)), *held)

    def _plain(self, value: Any) -> Iterator[bytes]:  # noqa: ANN401 - of any type
        del value
        return iter(())


def contents_of(step: "Step", names: ModuleNames) -> bytes:
    """Return the bytes of the data in a step's closure and defaults, which its body may consume."""
    function: Any = step.function
    return _Contents(names).function(function, step.ignore_arguments)


def surroundings_of(step: "Step", names: ModuleNames) -> bytes:
    """Return the bytes of a step's closure and defaults; empty where its name is given.

    Raises:
        UsageError: They have no canonical form, or hold an iterator, which a body would use up.
    """
    function: Any = step.function
    encoder = _Surroundings(names, strict=not step.pinned)
    try:
        found = encoder.function(function, step.ignore_arguments)
    except UsageError as error:
        what = error.message.removeprefix("an argument of type ")
        msg = f"step {step.name!r} has a value in its closure or defaults of type {what}"
        hint = "pass it as an argument, or name the step: @transaction(name=...)"
        if step.pinned:
            hint = "make a list of it before"
        raise UsageError(msg, hint=hint) from None
    if step.pinned:
        return b""
    # A lambda has no name that would tell it from another one.
    code = code_digest(function.__code__) if function.__name__ == _LAMBDA else b""
    return part(b"l", found, code) if code else found


_Claim = tuple["ref[types.FunctionType]", types.CodeType, bytes]
"""The function that claimed a name, its code, and what can be said of its closure."""

_claims: "OrderedDict[tuple[str, str], _Claim]" = OrderedDict()
_claiming = threading.Lock()


def _claim(within: str, known_as: str, step: "Step", encoder: _Surroundings | None) -> None:
    """Note which function a name stands for; the same one may be made again and again.

    Raises:
        UsageError: Another function has the name.
    """
    function: Any = step.function
    seen = encoder.function(function, step.ignore_arguments) if encoder else b""
    mine = (ref(function), function.__code__, seen)
    with _claiming:
        claimed = _claims.setdefault((within, known_as), mine)
        _claims.move_to_end((within, known_as))
        if len(_claims) > _CLAIMS:
            _claims.popitem(last=False)
    if claimed[0]() is function or claimed[1:] == mine[1:]:
        return
    msg = f"two functions of this run claim the name {step.name!r}"
    raise UsageError(msg, hint="give one of them another name: @transaction(name=...)")


def _is_static(builtin: types.BuiltinFunctionType) -> bool:
    """Whether it is a function of a module, not a method of some object."""
    return isinstance(builtin.__self__, types.ModuleType | type | None)


def _cells(function: types.FunctionType) -> Iterator[tuple[str, types.CellType]]:
    return zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def _defaults(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    yield from zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    yield from sorted((function.__kwdefaults__ or {}).items())


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _is_consumed(value: object) -> bool:
    """Whether a body that reads a value leaves less of it to the next attempt."""
    return isinstance(value, Iterator) and not isinstance(value, io.IOBase)
