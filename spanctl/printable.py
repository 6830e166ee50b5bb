"""Text as it can be shown: what a terminal would obey, or nobody would see, is spelled out.

One list holds for all that is written: C0 and C1 controls, DEL, line and paragraph separators,
surrogates, and whatever Unicode calls a default-ignorable code point (marks of direction, of no
width, of no shape, and tags) or a format character without a glyph.
"""

import re
from typing import Final

_CHARACTERS: Final = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"
)
UNSAFE: Final = re.compile(f"[{_CHARACTERS}]")
"""One character that is never written as it is."""

_SHORT: Final = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ONE_BYTE, _TWO_BYTES = 0x100, 0x10000
_IN_JSON: Final = re.compile(f"(?![\x00-\x1f])[{_CHARACTERS}]")
"""The same in JSON text, where only the lines between values are left of the C0 controls."""


def printable(text: str) -> str:
    r"""Return text on one line, each unsafe character as ``\t``, ``\x9b`` or ``\u202e``."""
    return UNSAFE.sub(_spelled, text)


def _spelled(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT:
        return _SHORT[char]
    code = ord(char)
    if code < _ONE_BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < _TWO_BYTES else f"\\U{code:08x}"


def printable_json(text: str) -> str:
    r"""Return JSON text that says the same with each unsafe character as ``\uXXXX``."""
    return _IN_JSON.sub(_in_json, text)


def _in_json(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < _TWO_BYTES:
        return f"\\u{code:04x}"
    high, low = divmod(code - _TWO_BYTES, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
