"""Sets of keys for reads and deletes."""

from google.cloud.spanner_v1.keyset import KeyRange, KeySet

__all__ = ["KeyRange", "KeySet", "one", "prefix_range"]


def one(*key: object) -> KeySet:
    """Return the set of a single key."""
    return KeySet(keys=[list(key)])


def prefix_range(prefix: str) -> KeySet:
    """Return the range of the string keys that start with ``prefix`` (Latin text)."""
    return KeySet(ranges=[KeyRange(start_closed=[prefix], end_open=[prefix + "\U0010ffff"])])
