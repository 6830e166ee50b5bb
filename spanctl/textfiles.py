"""Text files as they come: UTF-8, with a byte order mark or without; others with their remedy."""

import shlex
from pathlib import Path
from typing import Final

from spanctl.errors import UsageError

START: Final = 4
"""Bytes at the start of a file that tell whether it is text."""

STDIN: Final = "stdin"
"""The name of what has no path."""

_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_MARKED: Final = {
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_PACKED: Final = {
    b"BZh": ("packed by bzip2", "bunzip2 -c"),
    b"\xfd7zX": ("packed by xz", "xz -dc"),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", "zstd -dc"),
}
_NO_TEXT: Final = {
    b"PK\3\4": ("a ZIP archive or a spreadsheet", "unpack it, or save the sheet as CSV in UTF-8"),
    b"PAR1": ("a Parquet file", "write it as CSV or JSON Lines"),
    b"Obj\1": ("an Avro file", "write it as CSV or JSON Lines"),
}


def is_gzip(start: bytes) -> bool:
    """Tell by its first bytes whether a file is packed by gzip."""
    return start.startswith(_GZIP)


def refuse_foreign(start: bytes, name: str | Path, *, unpacked: bool = False) -> None:
    """Refuse a file whose first bytes show that it is no UTF-8 text.

    Args:
        start: Its first bytes.
        name: Its path.
        unpacked: Whether they come from a file that gzip had packed.

    Raises:
        UsageError: The message names what it is, the hint the command that makes it UTF-8 text.
    """
    for mark, (what, remedy) in _NO_TEXT.items():
        if start.startswith(mark):
            msg = f"{name} is {what}"
            raise UsageError(msg, hint=remedy)
    encoding = _wide(start[:START])
    found = next((one for mark, one in _PACKED.items() if start.startswith(mark)), None)
    if unpacked and is_gzip(start):
        found = "packed by gzip twice", "gunzip -c"
    if encoding:
        found = f"{encoding}, not UTF-8", f"iconv -f {encoding} -t UTF-8"
    if found:
        msg = f"{name} is {found[0]}"
        raise UsageError(msg, hint=_remedy(found[1], name, unpacked=unpacked))


def _remedy(command: str, name: str | Path, *, unpacked: bool = False) -> str:
    if name == STDIN:
        return f"pipe it through: {command}"
    path = shlex.quote(str(name))
    given = f"gunzip -c {path} | {command}" if unpacked else f"{command} {path}"
    return f"run: {given} > NEW"


def _wide(start: bytes) -> str:
    """Return the encoding whose mark, or whose zero bytes beside ASCII, a file begins with."""
    for mark, encoding in _MARKED.items():
        if start.startswith(mark):
            return encoding
    zeros = "".join("x" if byte else "0" for byte in start)
    return {"x0x0": "UTF-16LE", "0x0x": "UTF-16BE", "x000": "UTF-32LE", "000x": "UTF-32BE"}.get(
        zeros, ""
    )


def decoded(raw: bytes, name: str | Path) -> str:
    """Return a file's text, without its byte order mark.

    Raises:
        UsageError: It is no UTF-8 text; nothing of it is quoted.
    """
    if is_gzip(raw):
        msg = f"{name} is packed by gzip"
        raise UsageError(msg, hint=_remedy("gunzip -c", name))
    refuse_foreign(raw, name)
    try:
        return raw.removeprefix(_BOM).decode()
    except UnicodeDecodeError:
        raise not_utf8(name) from None


def not_utf8(name: str | Path, *, unpacked: bool = False) -> UsageError:
    """Return the error for a file that is text in some encoding of 8 bits."""
    remedy = _remedy("iconv -f WINDOWS-1252 -t UTF-8", name, unpacked=unpacked)
    return UsageError(f"{name} is not UTF-8", hint=f"if it is from Windows, {remedy}")
