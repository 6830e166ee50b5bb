"""What the checks share, each thing made when it is first asked for."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    from spanctl.local.health import Trouble
    from spanctl.orchestration.settings import ApiSettings
    from spanctl.settings import Settings
    from spanctl.spanner.client import Database
    from spanctl.spanner.rpc import Target

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Settings, and the connections that they lead to; thread-safe.

    Attributes:
        settings: Resolves every setting, or says why it can't.
        environ: The environment to look in.
        timeout: Seconds that one request may take.
    """

    settings: "Callable[[], Settings]"
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    timeout: float = 10.0
    _made: dict[str, object] = field(default_factory=dict)
    _locks: Mapping[str, threading.Lock] = field(
        default_factory=lambda: {
            name: threading.Lock() for name in ("database", "prefect", "stack", "local")
        }
    )

    def target(self) -> "Target":
        """Return where the database is, and how it is reached.

        Raises:
            ConfigurationError: Project, instance or database is unset.
        """
        from spanctl.spanner.rpc import Target

        return Target.from_settings(self.settings())

    def database(self) -> "Database":
        """Return the database, the same for all checks; nothing is sent yet.

        Raises:
            ConfigurationError: Project, instance or database is unset.
        """

        def make() -> "Database":
            from spanctl.spanner.client import Database

            return Database(self.target())

        return self._once("database", make)

    def prefect(self) -> "ApiSettings | None":
        """Return how Prefect's API is reached, None where none is set; read once.

        Raises:
            SpanctlError: A secret, or Prefect's profiles file, can't be read.
        """

        def make() -> "ApiSettings | None":
            from spanctl.orchestration.keys import reach

            return reach(self.settings(), environ=self.environ)

        return self._once("prefect", make)

    def troubles(self) -> "dict[str, Trouble]":
        """Return what keeps parts of the local stack from their work; looked at once.

        Raises:
            ConfigurationError: The stack's state can't be read.
        """

        def make() -> "dict[str, Trouble]":
            from spanctl.local.stack import Stack

            own = Stack(environ=self.environ)
            return own.troubles() if own.is_known else {}

        return self._once("stack", make)

    def local_context(self) -> dict[str, str]:
        """Return the settings that lead to the local stack as it is; empty where there is none.

        Raises:
            ConfigurationError: The stack's state can't be read.
        """

        def make() -> dict[str, str]:
            from spanctl.local.stack import Stack

            return Stack(environ=self.environ).context()

        return self._once("local", make)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        with self._locks[name]:
            if name not in self._made:
                self._made[name] = make()
            return cast("T", self._made[name])

    def close(self) -> None:
        """Let go of the database, if a check connected to it."""
        database = self._made.get("database")
        if database is not None:
            cast("Database", database).close()
