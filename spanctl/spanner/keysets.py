"""Sets of keys for reads and deletes."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.cloud.spanner_v1.keyset import KeyRange, KeySet
from google.cloud.spanner_v1.types import KeySet as Message

from spanctl.spanner.values import encode_row

__all__ = ["KeyRange", "KeySet", "encoded_keys", "one", "prefix_range"]


def one(*key: object) -> KeySet:
    """Return the set of a single key."""
    return KeySet(keys=[list(key)])


def prefix_range(prefix: str) -> KeySet:
    """Return the range of the string keys that start with ``prefix`` (Latin text)."""
    return KeySet(ranges=[KeyRange(start_closed=[prefix], end_open=[prefix + "\U0010ffff"])])


class _Encoded(KeySet):
    """Keys that were encoded by us: Google's own client takes BYTES for base64 text."""

    def __init__(self, keys: Iterable[Sequence[Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._message = Message()
        Message.pb(self._message).keys.extend(map(encode_row, keys))

    def _to_pb(self) -> Message:
        return self._message


def encoded_keys(keys: Iterable[Sequence[Any]]) -> KeySet:
    """Return the set of these keys, whose values are those that rows of ours have."""
    return _Encoded(keys)
