"""Switches that make the stand-ins as slow, or as broken, as the real services can be.

They lie in a JSON file, ``switches.json`` in the stand-ins' folder, that is read before each
answer: who can write it is the owner. Lags are applied by looking at the past, not by waiting: with
``{"aliases": 60}`` an alias resolves to what it was 60 seconds ago, until the file says otherwise.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from spanctl.errors import ConfigurationError
from spanctl.local.standins.files import write_private


@dataclass(frozen=True, slots=True)
class Switches:
    """What is delayed, in seconds, and what fails.

    Attributes:
        aliases: Age of the aliases by which versions are got and accessed.
        latest: Age of the list in which ``latest`` is looked for.
        states: Age of the version states that *access* obeys (get and list tell the newest).
        keys: Age at which a new service-account key begins to work.
        corrupt: Whether accessed payloads differ from their checksum in one bit.
        lose: Names of RPCs (``AddSecretVersion``) whose replies get lost after they took effect.
    """

    aliases: float = 0.0
    latest: float = 0.0
    states: float = 0.0
    keys: float = 0.0
    corrupt: bool = False
    lose: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Switches":
        """Read the file; no file is no lag.

        Raises:
            ConfigurationError: The file is damaged or names an unknown switch.
        """
        try:
            data = json.loads(path.read_bytes())
        except FileNotFoundError:
            return cls()
        except ValueError as error:
            msg = f"{path} is no JSON"
            raise ConfigurationError(msg, hint="mend or remove that file") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or set(data) - known:
            msg = f"{path} holds unknown switches"
            raise ConfigurationError(msg, hint=f"known are: {', '.join(sorted(known))}")
        return cls(**{**data, "lose": tuple(data.get("lose", ()))})

    def save(self, path: Path) -> None:
        """Write the file, owner-only; it holds from the next request on.

        Raises:
            OSError: It can't be written.
        """
        write_private(path, json.dumps(asdict(self)).encode())
