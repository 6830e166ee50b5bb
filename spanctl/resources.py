"""Names of Google Cloud resources, as values that are valid once they exist."""

import re
from dataclasses import dataclass
from typing import Self

from spanctl.errors import UsageError

_DATABASE = re.compile(
    r"projects/(?P<project>[a-z][a-z0-9.:-]{0,61}[a-z0-9])"
    r"/instances/(?P<instance>[a-z][a-z0-9-]{0,62}[a-z0-9])"
    r"/databases/(?P<database>[a-z][a-z0-9_-]{0,28}[a-z0-9])"
)


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
        if not _DATABASE.fullmatch(str(self)):
            msg = f"{self!s} is no name of a Spanner database"
            raise UsageError(msg, hint="write projects/P/instances/I/databases/D")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a full resource name.

        Raises:
            UsageError: The text is not of the form ``projects/P/instances/I/databases/D``.
        """
        match = _DATABASE.fullmatch(text)
        if match is None:
            msg = f"{text!r} is no name of a Spanner database"
            raise UsageError(msg, hint="write projects/P/instances/I/databases/D")
        return cls(**match.groupdict())

    @property
    def instance_path(self) -> str:
        """The instance's full name."""
        return f"projects/{self.project}/instances/{self.instance}"

    def __str__(self) -> str:
        """Return the full resource name."""
        return f"{self.instance_path}/databases/{self.database}"
