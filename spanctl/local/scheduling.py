"""What lets Prefect 3.8 schedule runs with SQLAlchemy 2.1, in the process of the local server.

Its scheduler inserts runs as dictionaries that hold their states as well, under the name of a
hybrid property. SQLAlchemy 2.0 leaves such a key out; 2.1 refuses it, unless the property says what
it means in bulk: here, as before, nothing.
"""

from collections.abc import MutableMapping
from typing import Any, Final

_HOOK: Final = "bulk_dml"


def let_in() -> None:
    """Have the scheduler's inserts be taken; without effect where SQLAlchemy takes them anyway."""
    from prefect.server.database.orm_models import FlowRun
    from sqlalchemy import inspect

    state = inspect(FlowRun).all_orm_descriptors["state"]
    in_place: Any = getattr(state, "inplace", None)
    if hasattr(in_place, _HOOK):
        getattr(in_place, _HOOK)(_leave_out)


def _leave_out(_kind: type, _mapping: MutableMapping[str, Any], _value: object) -> None:
    """Take a state for no column's value."""
