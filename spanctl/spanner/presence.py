"""An executor's own side of its row: it is written, kept fresh, guarded, and taken away.

Called under the lock of the execution whose leases it holds; its heart beats in another thread.
"""

import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from spanctl.errors import SupersededError
from spanctl.ledger.receipt import Provenance
from spanctl.spanner import executors, leases
from spanctl.spanner.executors import Enrolment
from spanctl.spanner.heartbeat import heart
from spanctl.spanner.leases import Holder
from spanctl.spanner.operation import TransactionOptions
from spanctl.spanner.transaction import Transaction

if TYPE_CHECKING:
    from spanctl.spanner.client import Database


class Presence:
    """What one execution says of itself to whoever may have to judge whether it is alive.

    Attributes:
        executor: Id of the executor; another one once all that it had leased is closed.
        ancestors: The executors that it was started by, the nearest first.
        rows: Executors of this execution that have ended, and whose rows are still there.
    """

    def __init__(
        self, database: "Database", root: str, provenance: Provenance, ancestors: Sequence[str]
    ) -> None:
        """Begin as an executor without a row; nothing is sent."""
        self._database = database
        self._root = root
        self._provenance = provenance
        self.ancestors = tuple(one for one in ancestors)
        self.rows: list[str] = []
        self._superseded: SupersededError | None = None
        self._deadline = TransactionOptions().deadline
        self.renew()

    def renew(self) -> None:
        """Be another executor from here on: the old one's row, if any, is somebody else's to end.

        Else a lease of the same size would be one that is closed.
        """
        self.executor = str(uuid.uuid4())
        self._pid = os.getpid()
        self._enrolment: Enrolment | None = None
        self._enrolled = False
        self._beats = False

    @property
    def is_of_parent(self) -> bool:
        """Whether this process is a fork of the one that the executor is."""
        return self._pid != os.getpid()

    @property
    def guards(self) -> tuple[str, ...]:
        """The executors of which none may be superseded; none while there is no row."""
        return (self.executor, *self.ancestors) if self._enrolled else ()

    def check(self) -> None:
        """Return while the executor isn't known to be superseded.

        Raises:
            SupersededError: It is.
        """
        if self._superseded is not None:
            raise self._superseded

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Keep in mind what the block may find: that this executor counts as dead."""
        try:
            yield
        except SupersededError as error:
            self._superseded = error
            self.still()
            raise

    def holder(self) -> Holder:
        """Return who leases, as the commit of a lease needs it."""
        if self._enrolled:
            return Holder(guards=self.guards)
        database = self._database
        if database.ledger.schema_version < executors.SINCE or database.is_installing:
            return Holder()
        self._enrolment = Enrolment(
            executor_id=self.executor,
            ancestors=self.ancestors,
            root=self._root,
            root_run=self._provenance.root_run,
            flow_run=self._provenance.flow_run or self._provenance.root_run,
            deadline=self._deadline,
            interval=database.target.heartbeat_interval,
        )
        return Holder(enrolment=self._enrolment, guards=self.ancestors)

    def begin(self) -> None:
        """Beat from here on: the row, if there is to be one, is there."""
        if self._enrolment is None:
            return
        self._enrolled = True
        if not self._beats:
            self._beats = True
            beat = partial(self._beat, self.guards)
            heart.start(self.executor, beat, self._enrolment.interval)

    def still(self) -> None:
        """Beat no more."""
        self._beats = False
        heart.stop(self.executor)

    def _beat(self, guards: tuple[str, ...]) -> bool:
        # An emulator aborts what is open where another transaction commits.
        if self._database.target.is_emulated and not self._database.sessions.is_idle:
            return False
        try:
            executors.beat(self._database, guards, timeout=leases.PARTING)
        except SupersededError as error:
            if self.guards == guards and self._beats:  # else it took its row away meanwhile
                self._superseded = error
            heart.stop(guards[0])
        return True

    def declare(self, deadline: float) -> None:
        """Write down that a transaction may take long: on an emulator it keeps heartbeats back.

        Raises:
            SupersededError: The executor counts as dead.
            SpanctlError: Spanner could not be reached or refused.
        """
        if self._enrolled and self._database.target.is_emulated and deadline > self._deadline:
            with self.noting():
                executors.declare(self._database, self.guards, deadline)
            self._deadline = deadline

    def guard(self, transaction: Transaction) -> None:
        """Refuse a transaction, from within it, once this executor counts as dead.

        Raises:
            SupersededError: It does.
        """
        self.check()
        if self.guards:
            with self.noting():
                executors.guard(self.guards)(transaction)

    def end(self) -> None:
        """Note that this executor has ended, and go on as another one should it be called again.

        Raises:
            SpanctlError: Spanner could not be reached or refused.
        """
        if not self._enrolled:
            return
        ended = self.executor
        self.retire()
        executors.end(self._database, ended, timeout=leases.PARTING)

    def retire(self) -> None:
        """Be another executor from here on, with the old one's row to be taken away."""
        self.still()
        if self._enrolled:
            self.rows.append(self.executor)
        self.renew()
