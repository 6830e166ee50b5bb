"""Names of Google Cloud resources, as values that are valid once they exist."""

import re
from dataclasses import dataclass
from typing import Self

from spanctl.errors import UsageError

_DATABASE = re.compile(r"projects/([^/]+)/instances/([^/]+)/databases/([^/]+)")
_FORM = "write projects/P/instances/I/databases/D"
_ENDS = "a letter first, no mark last"
_PARTS = {
    "project": (
        re.compile(r"[a-z][a-z0-9.:-]{0,61}[a-z0-9]"),
        f"a project's id has 2 to 63 lower-case letters, digits, hyphens, dots and colons, {_ENDS}",
    ),
    "instance": (
        re.compile(r"[a-z][a-z0-9-]{0,62}[a-z0-9]"),
        f"an instance's id has 2 to 64 lower-case letters, digits and hyphens, {_ENDS}",
    ),
    "database": (
        re.compile(r"[a-z][a-z0-9_-]{0,28}[a-z0-9]"),
        f"a database's id has 2 to 30 lower-case letters, digits, hyphens and underscores, {_ENDS}",
    ),
}


def check_part(part: str, text: str) -> None:
    """Return when a text can be a part of a database's name; of another setting, always.

    Args:
        part: ``project``, ``instance`` or ``database``.
        text: Its id.

    Raises:
        UsageError: It can't be; the hint is the part's rule.
    """
    form, rule = _PARTS.get(part, (None, ""))
    if form is not None and not form.fullmatch(text):
        msg = f"{text!r} is no id of {'an' if part == 'instance' else 'a'} {part}"
        raise UsageError(msg, hint=rule)


@dataclass(frozen=True, slots=True)
class DatabaseName:
    """A Spanner database: ``projects/P/instances/I/databases/D``."""

    project: str
    instance: str
    database: str

    def __post_init__(self) -> None:
        """Refuse parts that Spanner would refuse.

        Raises:
            UsageError: A part is no valid id.
        """
        for part in _PARTS:
            try:
                check_part(part, getattr(self, part))
            except UsageError as error:
                msg = f"{str(self)!r} is no name of a Spanner database: {error.message}"
                raise UsageError(msg, hint=error.hint) from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a full resource name.

        Raises:
            UsageError: The text is not of the form ``projects/P/instances/I/databases/D``, or a
                part is no valid id.
        """
        match = _DATABASE.fullmatch(text)
        if match is None:
            msg = f"{text!r} is no name of a Spanner database"
            raise UsageError(msg, hint=_FORM)
        return cls(*match.groups())

    @property
    def instance_path(self) -> str:
        """The instance's full name."""
        return f"projects/{self.project}/instances/{self.instance}"

    def __str__(self) -> str:
        """Return the full resource name."""
        return f"{self.instance_path}/databases/{self.database}"
