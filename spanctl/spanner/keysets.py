"""Sets of keys for reads and deletes."""

import base64

from google.cloud.spanner_v1.keyset import KeyRange, KeySet

__all__ = ["KeyRange", "KeySet", "encoded", "one", "prefix_range"]


def encoded(part: object) -> object:
    """Return a part of a key as Google's client takes it: it sends BYTES as they are."""
    return base64.b64encode(part) if isinstance(part, bytes) else part


def one(*key: object) -> KeySet:
    """Return the set of a single key."""
    return KeySet(keys=[list(key)])


def prefix_range(prefix: str) -> KeySet:
    """Return the range of the string keys that start with ``prefix`` (Latin text)."""
    return KeySet(ranges=[KeyRange(start_closed=[prefix], end_open=[prefix + "\U0010ffff"])])
