"""What Secret Manager accepts: names, labels, annotations, aliases, payloads, filters."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from spanctl.local.standins.status import RefusedError, Status, invalid

PAYLOAD_AT_MOST: Final = 64 * 1024

_ALIASES_AT_MOST: Final = 50
_LABELS_AT_MOST: Final = 64
_ANNOTATIONS_AT_MOST: Final = 16 * 1024
_SHORTEST_DELAY: Final = timedelta(days=1)
_LONGEST_DELAY: Final = timedelta(days=1000)
_RESERVED: Final = {"latest", "NEW"}
_SECRET_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,255}")
_ALIAS: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_ANNOTATION: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NAME: Final = re.compile(
    r"projects/(?P<project>[^/]+)(?:/secrets/(?P<secret>[^/]+)(?:/versions/(?P<version>[^/]+))?)?"
)
_TERM: Final = re.compile(r"(?P<key>name|state|labels\.[^\s:=]+)\s*[:=]\s*(?P<value>\S+)")


@dataclass(frozen=True, slots=True)
class Name:
    """A resource name, taken apart; what it doesn't reach is empty."""

    project: str
    secret: str = ""
    version: str = ""


def parse(name: str, *, depth: int) -> Name:
    """Take a name apart.

    Args:
        name: The resource name.
        depth: What it must name: 1 a project, 2 a secret, 3 a version.

    Raises:
        RefusedError: It is of another form.
    """
    match = _NAME.fullmatch(name)
    parts = [part for part in match.groups() if part] if match else []
    if len(parts) != depth or (depth > 1 and not _SECRET_ID.fullmatch(parts[1])):
        form = ("projects/*", "projects/*/secrets/*", "projects/*/secrets/*/versions/*")[depth - 1]
        msg = f"The provided resource name must be of the form {form}."
        raise invalid(msg)
    return Name(*parts)


def check_secret_id(text: str) -> None:
    """Refuse what can't be the id of a new secret.

    Raises:
        RefusedError: It has forbidden characters, or too many.
    """
    if not _SECRET_ID.fullmatch(text):
        msg = "The secret_id must match the expected format [[a-zA-Z_0-9\\-]{1,255}]."
        raise invalid(msg)


def check_labels(labels: Mapping[str, str]) -> None:
    """Refuse labels that Google refuses.

    Raises:
        RefusedError: There are too many, or one has forbidden characters.
    """
    if len(labels) > _LABELS_AT_MOST:
        msg = f"No more than {_LABELS_AT_MOST} labels can be assigned to a given resource."
        raise invalid(msg)
    for key, value in labels.items():
        if not (key and _is_lower(key[0]) and _is_label(key) and _is_label(value)):
            msg = "A label has a key or a value that is not allowed."
            raise invalid(msg)


def _is_label(text: str) -> bool:
    good = all(_is_lower(char) or char.isnumeric() or char in "_-" for char in text)
    return good and len(text) <= 63 and len(text.encode()) <= 128  # noqa: PLR2004 - Google's limits


def _is_lower(char: str) -> bool:
    return char.isalpha() and not char.isupper() and not char.istitle()


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Refuse annotations that Google refuses.

    Raises:
        RefusedError: They hold 16 KiB or more, or a key has forbidden characters.
    """
    size = sum(len(key.encode()) + len(value.encode()) for key, value in annotations.items())
    if size >= _ANNOTATIONS_AT_MOST:
        msg = "The total size of annotation keys and values must be less than 16KiB."
        raise invalid(msg)
    if not all(_ANNOTATION.fullmatch(key) for key in annotations):
        msg = "An annotation has a key that is not allowed."
        raise invalid(msg)


def check_aliases(aliases: Mapping[str, int], newest: int) -> None:
    """Refuse aliases that Google refuses.

    Args:
        aliases: Alias to version number.
        newest: The highest number that a version of the secret has had.

    Raises:
        RefusedError: There are too many, or one is no alias or names no version.
    """
    if len(aliases) > _ALIASES_AT_MOST:
        msg = f"No more than {_ALIASES_AT_MOST} aliases can be assigned to a given secret."
        raise invalid(msg)
    for alias, number in aliases.items():
        if alias in _RESERVED or not _ALIAS.fullmatch(alias):
            msg = f"The version alias {alias[:63]!r} is not allowed."
            raise invalid(msg)
        if not 1 <= number <= newest:
            msg = f"The version alias {alias!r} refers to version {number}, which does not exist."
            raise invalid(msg)


def check_delay(delay: timedelta | None) -> None:
    """Refuse a delay of destruction that Google refuses.

    Raises:
        RefusedError: It is shorter than a day, or longer than 1,000 days.
    """
    if delay and not _SHORTEST_DELAY <= delay <= _LONGEST_DELAY:
        msg = "The version destroy TTL must be between 24 hours and 1000 days."
        raise invalid(msg)


def compile_filter(text: str) -> Callable[[str, str, Mapping[str, str]], bool]:
    """Turn a filter into a test of name, state and labels; terms are joined by AND or a space.

    Raises:
        RefusedError: It uses more of the filter language than the stand-in knows.
    """
    terms: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        match = _TERM.match(rest)
        if match is None:
            msg = "The local stand-in knows the filters name:X, state:X and labels.KEY=VALUE only."
            raise RefusedError(Status.UNIMPLEMENTED, msg)
        terms.append((match["key"], match["value"].strip('"')))
        rest = rest[match.end() :].strip().removeprefix("AND ").strip()

    def fits(name: str, state: str, labels: Mapping[str, str]) -> bool:
        known = {"state": state, **{f"labels.{key}": value for key, value in labels.items()}}
        return all(
            value in name if key == "name" else known.get(key) == value for key, value in terms
        )

    return fits
