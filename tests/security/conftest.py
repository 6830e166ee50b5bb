"""What attacks need: a database of accounts, reached as the command line reaches it."""

from tests.flows.conftest import bank

__all__ = ["bank"]
