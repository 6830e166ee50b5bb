"""The one list of characters that are never written as they are, against Unicode's own data."""

import json
import sys
import unicodedata
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spanctl.printable import UNSAFE, printable, printable_json

VISIBLE_FORMATS: Final = {
    *range(0x600, 0x606),
    *(0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD),
}
"""Format characters that draw a sign of their own."""

INVISIBLE: Final = {
    *(0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, 0x2065),
    *range(0x180B, 0x1810),
    *range(0xFE00, 0xFE10),
    *range(0x13439, 0x13440),  # formats in a later Unicode
    *range(0xFFF0, 0xFFF9),
    *range(0xE0000, 0xE1000),
}
"""Default-ignorable characters of other categories: fillers, selectors, what is reserved."""


@pytest.mark.parametrize("plane", range(17))
def test_the_list_is_unicode_s(plane: int) -> None:
    """Controls, formats, separators and whatever has no shape are spelled; nothing else is."""
    for code in range(plane << 16, min((plane + 1) << 16, sys.maxunicode + 1)):
        char = chr(code)
        kind = unicodedata.category(char)
        wanted = kind in {"Cc", "Cs", "Zl", "Zp"} or code in INVISIBLE
        wanted |= kind == "Cf" and code not in VISIBLE_FORMATS
        assert bool(UNSAFE.match(char)) is wanted, hex(code)


@pytest.mark.parametrize(
    ("char", "spelled"),
    [
        ("\n", "\\n"),
        ("\x1b", "\\x1b"),
        ("\x9b", "\\x9b"),
        ("\u200b", "\\u200b"),
        ("\u202e", "\\u202e"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_each_is_spelled(char: str, spelled: str) -> None:
    """As Python writes it, so that it can be typed again."""
    assert printable(f"a{char}b") == f"a{spelled}b"


@given(st.text(alphabet=st.characters() | st.sampled_from("\x00\x9b\u200d\ud800\U000e0041")))
def test_json_says_the_same(text: str) -> None:
    """What is read back is what was written, and nothing unsafe is in between."""
    written = printable_json(json.dumps([text], ensure_ascii=False, indent=2))
    assert not UNSAFE.search(written.replace("\n", ""))
    read = "".join(json.loads(written))
    assert read.encode("utf-16", "surrogatepass") == text.encode("utf-16", "surrogatepass")


@given(st.text())
def test_text_is_one_line(text: str) -> None:
    """Nothing unsafe comes through, the rest does, and what is shown can be shown again."""
    shown = printable(text)
    assert not UNSAFE.search(shown)
    assert printable(shown) == shown
    if text.isprintable() and not UNSAFE.search(text):
        assert shown == text
