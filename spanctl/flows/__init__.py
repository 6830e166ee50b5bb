"""Prefect flows on Spanner: steps that are transactions, ready-made tasks, blocks.

::

    from prefect import flow
    from spanctl.flows import transaction


    @transaction(retries=2)
    def move(txn, source, target, cents): ...


    @flow
    def settle():
        move("a", "b", 500)
"""

from spanctl.flows.blocks import SpannerCredentials, SpannerDatabase
from spanctl.flows.steps import TransactionTask, transaction
from spanctl.flows.tasks import Dml, Mutation, MutationKind, execute_dml, query, write
from spanctl.invocation import Invocation, using
from spanctl.orchestration import ownresults
from spanctl.proxies import spare_loopback

spare_loopback()  # Prefect's client looks at the environment whenever it is made
ownresults.install()

__all__ = [
    "Dml",
    "Invocation",
    "Mutation",
    "MutationKind",
    "SpannerCredentials",
    "SpannerDatabase",
    "TransactionTask",
    "execute_dml",
    "query",
    "transaction",
    "using",
    "write",
]
