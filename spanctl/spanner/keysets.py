"""Sets of keys to read or delete: Google's own types, from the one package that may import them."""

from google.cloud.spanner_v1.keyset import KeyRange, KeySet

__all__ = ["KeyRange", "KeySet"]
