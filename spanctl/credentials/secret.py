"""A value that doesn't leave by accident: no repr, str, format, pickle, JSON or copy of it."""

import hmac
from typing import Any, ClassVar, Final, Never, NoReturn, Self, SupportsIndex

from spanctl.credentials.redact import REDACTOR
from spanctl.errors import UsageError

SHOWN: Final = "Secret(…)"
_INSTEAD: Final = "pass its reference on, and open it where it is used"


class NotPortableError(UsageError, TypeError):
    """Material, or what holds it open, was to be sent to another process or written (exit 2)."""


class Kept:
    """What holds material or a connection: it refuses to be pickled."""

    _instead: ClassVar[str] = _INSTEAD

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled."""
        self.__getstate__()

    def __getstate__(self) -> NoReturn:
        """Refuse to be serialised.

        Raises:
            NotPortableError: Always; its message says what to pass on instead.
        """
        msg = f"{type(self).__name__} can't be pickled: {self._instead}"
        raise NotPortableError(msg)


class Secret:
    """Secret material, for those who ask for it by name.

    It shows itself as ``Secret(…)``, compares in constant time, and refuses to be pickled, copied,
    iterated, hashed or turned into bytes or JSON. Making one teaches the process's redactor its
    value, so that the value is masked in logs and tracebacks from then on.
    """

    __slots__ = ("__value",)

    def __init__(self, value: bytes | str) -> None:
        """Keep the value; text is kept as UTF-8."""
        self.__value = value.encode() if isinstance(value, str) else bytes(value)
        REDACTOR.learn(self.__value)

    def reveal(self) -> bytes:
        """Return the material itself: hand it on at once, and keep no name for it."""
        return self.__value

    def reveal_text(self) -> str:
        """Return the material as text.

        Raises:
            ValueError: It is no UTF-8; the message doesn't quote it.
        """
        try:
            return self.__value.decode()
        except UnicodeDecodeError:
            msg = "the secret is no text"
            raise ValueError(msg) from None

    def __repr__(self) -> str:
        """Return a text that says nothing."""
        return SHOWN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        """Format as the text that says nothing."""
        return format(SHOWN, spec)

    def __eq__(self, other: object) -> bool:
        """Compare in a time that tells nothing but the lengths."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401 - of any attribute
        """Set the value once, nothing else and never again."""
        if name != "_Secret__value" or hasattr(self, name):
            _refuse("changed")
        object.__setattr__(self, name, value)

    def __bytes__(self) -> bytes:  # noqa: PLE0308 - it always raises
        """Refuse: ``reveal()`` says what is meant."""
        _refuse("turned into bytes")

    def __iter__(self) -> Never:
        """Refuse."""
        _refuse("iterated")

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuse to be pickled."""
        self.__getstate__()

    def __getstate__(self) -> NoReturn:
        """Refuse to be serialised."""
        msg = f"a secret can't be pickled: {_INSTEAD}"
        raise NotPortableError(msg)

    def __copy__(self) -> Self:
        """Refuse to be copied."""
        _refuse("copied")

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Refuse to be copied."""
        _refuse("copied")


def _refuse(what: str) -> NoReturn:
    msg = f"a secret can't be {what}"
    raise TypeError(msg)
