"""Digests of what a call was given: two values that a body can tell apart never share one.

Every value is written with its type and the length of each part, so that no two are written alike:
all digits of a Decimal, a time's zone and fold, the class of an object and all that it holds, also
what its own dump leaves out. A value without such a form is refused. Only the order of a plain
mapping and of a set doesn't count, as in Python's own ``==``.

Version 1 (:mod:`spanctl.ledger.canonical`) was lossy; receipts that hold one are compared by it.
"""

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import hmac
import marshal
import re
import struct
import sys
import types
import uuid
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

from spanctl.errors import UsageError
from spanctl.ledger import canonical
from spanctl.ledger.receipt import TransactionResult

VERSION: Final = "2:"

_HINT: Final = "pass plain values, or name the parameter in ignore_arguments"
_LOADED: Final = "__prefect_loader_"
"""Begins the names of files that Prefect loaded while a module of their stem was there already."""
_MAIN: Final = ("__main__", "__mp_main__")
_OF_PACKAGES: Final = ("__main__", "__init__")
_OTHERS: Final = frozenset({"prefect", "spanctl", "spanctl_cli"})
"""Packages that have programs of their own, which run somebody else's flows."""
_NO_STATE: Final = frozenset({"__dict__", "__weakref__", "__objclass__"})
_HEAP_TYPE: Final = 1 << 9
"""CPython's flag of classes that are made by ``class``: what others hold, Python can't list."""


@dataclass(frozen=True, slots=True)
class ModuleNames:
    """What modules are called in digests and identities, however they were loaded.

    The file that is run is called by its stem: as a script it is ``__main__``, as a deployment
    whatever its loader named it, elsewhere a module of a package.

    Attributes:
        own: Name as loaded, and stem, of each module that is the run's own file.
    """

    own: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_run(cls, *loaded: str) -> "ModuleNames":
        """Name the modules that are a run's own; a user's main module always is one."""
        mains = [name for name in _MAIN if not _is_another_s(name)]
        found = {name: called for name in (*loaded, *mains) if (called := _stem(name))}
        return cls(tuple(found.items()))

    def of(self, module: str | None) -> str:
        """Return what a module is called; nothing where code was made outside of any."""
        if module is None:
            return ""
        stems = dict(self.own)
        if module.startswith(_LOADED) and module not in stems:
            return _stem(module) or module
        if module in stems:
            return stems[module]
        return f"{module} (imported)" if module in stems.values() else module


def _stem(module: str) -> str | None:
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    return stem(file) if file else None


def stem(file: str) -> str:
    """Return what a file's module is called; a package has its name from its folder."""
    path = PurePath(file)
    return path.parent.name if path.stem in _OF_PACKAGES else path.stem


def _is_another_s(main: str) -> bool:
    spec = getattr(sys.modules.get(main), "__spec__", None)
    return spec is not None and str(spec.name).partition(".")[0] in _OTHERS


def injective(value: Any, names: ModuleNames | None = None) -> bytes:  # noqa: ANN401 - of any type
    """Return bytes that stand for a value, and for no other.

    Raises:
        UsageError: The value, or one inside it, has no such form.
    """
    return Encoder(names or ModuleNames.of_run()).encode(value)


def arguments_digest(
    key: bytes, arguments: Mapping[str, Any], names: ModuleNames | None = None
) -> str:
    """Return the keyed digest of a call's arguments: HMAC-SHA-256 (RFC 2104), with its version.

    It is keyed so that a short value can't be guessed from the receipt.

    Args:
        key: The ledger's key, at least 32 bytes.
        arguments: Parameter name to value.
        names: What modules are called.

    Raises:
        UsageError: A value has no canonical form.
    """
    return VERSION + keyed(key, injective(dict(arguments), names))


def is_digest_of(
    stored: str | None, key: bytes, arguments: Mapping[str, Any] | None, digest: str | None
) -> bool:
    """Tell whether a receipt's digest, of whatever version, is the one of these arguments.

    Args:
        stored: What the receipt holds.
        key: The ledger's key.
        arguments: The arguments; None when there are none to compare.
        digest: Their digest in this version.
    """
    if stored is None or arguments is None or stored.startswith(VERSION):
        return stored == digest
    try:
        return stored == canonical.arguments_digest(key, arguments)
    except UsageError:
        return False


def keyed(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA-256 of data as 43 characters of base64url."""
    return base64.urlsafe_b64encode(hmac.new(key, data, hashlib.sha256).digest()).decode()[:43]


class Encoder:
    """Writes one value as bytes.

    Subclasses widen what has a form by :meth:`other`.
    """

    def __init__(self, names: ModuleNames) -> None:
        """Start with nothing written.

        Args:
            names: What modules are called.
        """
        self.names = names
        self._open: set[int] = set()

    def encode(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of a value.

        Raises:
            UsageError: It has no canonical form, or holds itself.
        """
        plain = _PLAIN.get(type(value))
        if plain is not None:
            return plain(value)
        if id(value) in self._open:
            return self.again(value)
        self._open.add(id(value))
        try:
            return self._compound(value)
        finally:
            self._open.discard(id(value))

    def again(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of a value that is just being written.

        Raises:
            UsageError: Always; a subclass may cut the circle.
        """
        msg = f"an argument of type {type(value).__qualname__} holds itself"
        raise UsageError(msg, hint=_HINT)

    def other(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of a value of no known type.

        Raises:
            UsageError: It has no canonical form.
        """
        msg = f"an argument of type {type(value).__qualname__} has no canonical form"
        raise UsageError(msg, hint=_HINT)

    def record(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        """Return the bytes of an object that is made of its fields."""
        return part(b"O", self.named(type(value)), self._state(value))

    def named(self, thing: Any) -> bytes:  # noqa: ANN401 - what has a qualified name
        """Return the bytes of what is known by its qualified name."""
        module = self.names.of(getattr(thing, "__module__", None))
        return part(b"Q", module.encode(), thing.__qualname__.encode())

    def _compound(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        kind = type(value)
        if kind in _CONTAINERS:
            return self._base(value, kind)
        if isinstance(value, enum.Enum):
            member = str(value.name).encode()
            return part(b"E", self.named(kind), member, self.encode(value.value))
        if isinstance(value, dt.tzinfo):
            return self._zone(value)
        for base in _BASES:
            if isinstance(value, base):
                return part(b"C", self.named(kind), self._base(value, base), self._state(value))
        return self.record(value) if _is_record(value) else self.other(value)

    def _base(self, value: Any, base: type) -> bytes:  # noqa: ANN401, PLR0911 - one line a type
        if (plain := _PLAIN.get(base)) is not None:
            return plain(value)
        if base is dt.datetime:
            naive = dt.datetime.isoformat(value.replace(tzinfo=None))
            return part(b"t", naive.encode(), *self._clock(value))
        if base is dt.time:
            naive = dt.time.isoformat(value.replace(tzinfo=None))
            return part(b"c", naive.encode(), *self._clock(value))
        # Of a subclass too the base's own view is taken: its methods may show something else.
        if base is dict or base is types.MappingProxyType:
            return part(b"M" if base is dict else b"m", *sorted(self._pairs(value, base)))
        if base is collections.OrderedDict:
            return part(b"D", *self._pairs(value, base))
        items = map(self.encode, base.__iter__(value))  # type: ignore[attr-defined]
        if base is set or base is frozenset:
            return part(b"U" if base is set else b"u", *sorted(items))
        if base is collections.deque:
            return part(b"d", self.encode(value.maxlen), *items)
        return part(b"L" if base is list else b"T", *items)

    def _pairs(self, value: Mapping[Any, Any], base: Any) -> Iterator[bytes]:  # noqa: ANN401 - a mapping's type
        return (part(b"P", self.encode(key), self.encode(item)) for key, item in base.items(value))

    def _clock(self, value: dt.datetime | dt.time) -> tuple[bytes, bytes]:
        zone = b"" if value.tzinfo is None else self.encode(value.tzinfo)
        return str(value.fold).encode(), zone

    def _zone(self, zone: dt.tzinfo) -> bytes:
        if (offset := zone.utcoffset(None)) is not None:
            told = (str(offset // dt.timedelta(microseconds=1)), str(zone))
        elif isinstance(key := getattr(zone, "key", None) or getattr(zone, "zone", None), str):
            # pytz makes one object for each offset of a zone.
            told = (key, "" if isinstance(zone, zoneinfo.ZoneInfo) else repr(zone))
        elif f"0x{id(zone):x}" not in repr(zone):  # it says which one it is, as those of dateutil
            told = ("", repr(zone))
        else:
            return self.other(zone)
        return part(b"z", self.named(type(zone)), *(text.encode() for text in told))

    def _state(self, value: Any) -> bytes:  # noqa: ANN401 - of any type
        parts = [part(b"P", name.encode(), self.encode(item)) for name, item in state(value)]
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            parts.append(part(b"F", *(name.encode() for name in value._fields)))
        if isinstance(value, collections.defaultdict):
            parts.append(part(b"N", self._factory(value.default_factory)))
        return part(b"S", *parts)

    def _factory(self, factory: Any) -> bytes:  # noqa: ANN401 - what makes a missing value
        plain = isinstance(factory, types.FunctionType) and not (
            factory.__closure__ or factory.__defaults__ or factory.__name__ == "<lambda>"
        )
        if plain or isinstance(factory, type):
            return self.named(factory)
        return self.encode(factory)


def code_digest(code: types.CodeType) -> bytes:
    """Return the SHA-256 of what code does, without where its text is."""
    return hashlib.sha256(marshal.dumps(_placeless(code))).digest()


def _placeless(code: types.CodeType) -> types.CodeType:
    consts = tuple(
        _placeless(one) if isinstance(one, types.CodeType) else one for one in code.co_consts
    )
    return code.replace(co_filename="", co_firstlineno=1, co_linetable=b"", co_consts=consts)


def part(tag: bytes, *parts: bytes) -> bytes:
    """Return parts under a tag, each with its length, so that they can't run into each other."""
    lengths = b"".join(struct.pack(">Q", len(one)) for one in parts)
    return tag + struct.pack(">Q", len(parts)) + lengths + b"".join(parts)


def state(value: Any) -> Iterable[tuple[str, Any]]:  # noqa: ANN401 - of any type
    """Return what an object holds, by name, whether in its dictionary or in slots."""
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            hidden = name.startswith("__") and not name.endswith("__")
            attribute = f"_{kind.__name__.lstrip('_')}{name}" if hidden else name
            if hasattr(value, attribute):
                found[attribute] = getattr(value, attribute)
    if isinstance(value, _SCALARS) and not type(value).__flags__ & _HEAP_TYPE:
        found["repr()"] = repr(value)  # such as the nanoseconds of a time of pandas
    return sorted(
        (name, item)
        for name, item in found.items()
        if name not in _NO_STATE
        # It is computed from the rest when it is first asked for, maybe by the body.
        and not isinstance(getattr(type(value), name, None), functools.cached_property)
    )


def _is_record(value: Any) -> bool:  # noqa: ANN401 - of any type
    """Whether a class says itself that its objects are made of their fields."""
    kind = type(value)
    return (
        dataclasses.is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
        or callable(getattr(kind, "model_dump", None))
    )


def _text(tag: bytes, write: Callable[[Any], str]) -> Callable[[Any], bytes]:
    return lambda value: part(tag, write(value).encode("utf-8", "surrogatepass"))


_PLAIN: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda _: b"0",
    bool: lambda value: b"1" if value else b"2",
    int: _text(b"i", lambda value: int.__format__(value, "x")),  # in decimal, digits are limited
    float: lambda value: part(b"f", struct.pack(">d", value)),
    complex: lambda value: part(b"j", struct.pack(">dd", value.real, value.imag)),
    str: _text(b"s", str.__str__),
    bytes: lambda value: part(b"b", bytes(value)),
    bytearray: lambda value: part(b"a", bytes(value)),
    memoryview: lambda value: part(
        b"v", value.format.encode(), repr(value.shape).encode(), value.tobytes()
    ),
    decimal.Decimal: _text(b"n", lambda value: repr(tuple(decimal.Decimal.as_tuple(value)))),
    uuid.UUID: _text(b"g", lambda value: value.hex),
    dt.date: _text(b"y", dt.date.isoformat),
    dt.timedelta: _text(b"p", lambda v: f"{v.days} {v.seconds} {v.microseconds}"),
    range: _text(b"r", repr),
    re.Pattern: lambda value: part(b"e", injective(value.pattern), str(value.flags).encode()),
    TransactionResult: _text(b"x", lambda value: value.txn_id),  # a replay differs in all else
}
_CONTAINERS: Final = frozenset(
    {list, tuple, dict, set, frozenset, dt.datetime, dt.time, types.MappingProxyType}
    | {collections.OrderedDict, collections.deque}
)
_SCALARS: Final = (int, float, complex, decimal.Decimal, dt.date, dt.time, dt.timedelta)
# Derived types stand before what they derive from.
_BASES: Final = (
    str, bytes, bytearray, int, float, complex, decimal.Decimal, uuid.UUID, dt.datetime, dt.date,
    dt.time, dt.timedelta, collections.OrderedDict, dict, list, tuple, set, frozenset,
    collections.deque,
)  # fmt: skip
