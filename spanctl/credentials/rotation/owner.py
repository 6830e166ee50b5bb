"""Which process a rotator is, and whether another one is provably dead."""

import getpass
import os
import socket
import uuid

from spanctl.processes import Mark, mark, ticks_of


def this_owner() -> str:
    """Return a new id for a rotator in this process: its mark, its number, and chance."""
    return f"{mark() or ''}/{os.getpid()}/{uuid.uuid4().hex[:12]}"


def this_one() -> str:
    """Return who this process is, for people; it is claimed, not proven."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"


def is_gone(owner: str) -> bool:
    """Tell whether an owner has ended that ran in this pid namespace of this boot; else False.

    Of one in another container of this machine, and of an older client's, nothing is known.
    """
    marked, _, rest = owner.rpartition("/")[0].rpartition("/")
    known, mine = Mark.parse(marked), mark()
    if known is None or mine is None or not rest.isdecimal() or not mine.is_beside(known):
        return False
    return ticks_of(int(rest)) != known.ticks
