"""What completes what: the kinds of values that change, and where the command line takes them."""

from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """Values that no list of fixed words holds, by what they name."""

    COMMANDS = "commands"
    CONTEXTS = "contexts"
    DEPLOYMENTS = "deployments"
    FENCED = "fenced"
    FILES = "files"
    FLOWS = "flows"
    FLOW_RUNS = "flow_runs"
    SECRETS = "secrets"
    TABLES = "tables"
    TXNS = "txns"
    UNRESOLVED = "unresolved"


RULES: Final[tuple[tuple[str, str, tuple[Kind, ...]], ...]] = (
    ("*", "--context", (Kind.CONTEXTS,)),
    ("*", "--table", (Kind.TABLES,)),
    ("*", "--flow-run", (Kind.FLOW_RUNS,)),
    ("*", "--flow", (Kind.FLOWS,)),
    ("*", "--deployment", (Kind.DEPLOYMENTS,)),
    ("help", "words", (Kind.COMMANDS,)),
    ("context use", "name", (Kind.CONTEXTS,)),
    ("context delete", "name", (Kind.CONTEXTS,)),
    ("context create", "name", ()),
    ("run target", "target", (Kind.DEPLOYMENTS, Kind.FILES)),
    ("runs *", "run", (Kind.FLOW_RUNS,)),
    ("runs *", "runs", (Kind.FLOW_RUNS,)),
    ("deployments *", "name", (Kind.DEPLOYMENTS,)),
    ("audit show", "wanted", (Kind.TXNS, Kind.FLOW_RUNS)),
    ("audit blame", "table", (Kind.TABLES,)),
    ("txn reopen", "wanted", (Kind.FENCED,)),
    ("txn *", "wanted", (Kind.UNRESOLVED,)),
    ("undo", "wanted", (Kind.TXNS,)),
    ("creds create", "name", ()),
    ("creds *", "name", (Kind.SECRETS,)),
    ("creds *", "names", (Kind.SECRETS,)),
    ("creds *", "reference", (Kind.SECRETS,)),
    ("*", "file", (Kind.FILES,)),
    ("*", "FILE", (Kind.FILES,)),
    ("*", "PATH", (Kind.FILES,)),
)
"""Command, parameter, kinds: the first rule that fits counts.

Both are shell patterns. A parameter is an option's first spelling, an argument's name, or a
metavar. What has choices, or a function that lists fixed words, is completed with those as well.
"""
