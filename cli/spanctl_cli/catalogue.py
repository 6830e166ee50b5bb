"""What each error code means, what causes it, and what to type next: ``spanctl help CODE``."""

from dataclasses import dataclass
from typing import Final

from spanctl_cli.exit_codes import ExitCode


@dataclass(frozen=True, slots=True)
class Explanation:
    """An error code in more words than its message has.

    Attributes:
        exit_code: The exit code of the command that ends with it.
        cause: What leads to it.
        next: What to do about it; commands stand in it as they are typed.
    """

    exit_code: ExitCode
    cause: str
    next: str


ERRORS: Final[dict[str, Explanation]] = {
    "failed": Explanation(
        ExitCode.FAILED,
        "The command could not do what it was asked to, for a reason that its message names.",
        "Mend what the message names and run it again; if it doesn't say enough, put --debug before"
        " the command: spanctl --debug COMMAND.",
    ),
    "usage": Explanation(
        ExitCode.USAGE,
        "The command line, or an input that it names, can't be used as it is. Nothing was done.",
        "Read the command's options and examples: spanctl help COMMAND.",
    ),
    "configuration": Explanation(
        ExitCode.USAGE,
        "A setting, a context or an installation is missing or wrong. Nothing was done.",
        "See every setting and where it comes from: spanctl context show. Set one:"
        " spanctl context set SETTING=VALUE.",
    ),
    "key_required": Explanation(
        ExitCode.USAGE,
        "A write was called from another thread or task, where the order of calls isn't stable, so"
        " that no operation key can be made of it.",
        "Name the call: pass key=... to the step. With several elements, give each its own key."
        " Then run it again: spanctl run TARGET.",
    ),
    "context_lost": Explanation(
        ExitCode.USAGE,
        "A write was called from a thread, a pool or a process that has lost the context of the"
        " flow run that is being executed. Its operation key would differ on every attempt.",
        "Start the thread's work with contextvars.copy_context().run and pass key=..., or submit"
        " the step to the flow's task runner. Work of its own names its job: with using(job=...)."
        " Then run it again: spanctl run TARGET.",
    ),
    "argument_changed": Explanation(
        ExitCode.USAGE,
        "A step's body changed an argument, a closure value or a default that it was given. Run"
        " again after an abort or an error it would see, and commit, something else.",
        "Let the body work on a copy, as in items = list(items). Then run it again:"
        " spanctl run TARGET.",
    ),
    "not_idempotent": Explanation(
        ExitCode.USAGE,
        "Partitioned DML is applied at least once in each partition, and this statement may do harm"
        " when it is applied twice.",
        "Write it so that twice is as once, or say that you know: spanctl run sql --partitioned"
        " --assume-idempotent -e ...; without --partitioned it is one transaction.",
    ),
    "unreachable": Explanation(
        ExitCode.UNREACHABLE,
        "A server did not answer in time, or can't be connected to.",
        "Look at the local stack: spanctl local status. For a cloud, check the endpoints:"
        " spanctl context show. What was tried is shown by spanctl --verbose COMMAND.",
    ),
    "time_over": Explanation(
        ExitCode.UNREACHABLE,
        "A server was still at it, or silent, when the time that it had been given was over.",
        "Give it longer: --timeout, or timeout= in Python; or make the statement smaller. What was"
        " sent is shown by spanctl --verbose COMMAND.",
    ),
    "not_permitted": Explanation(
        ExitCode.NOT_PERMITTED,
        "The credentials are missing or expired, or they are not allowed to do this.",
        "See who acts, and what it may do on the database: spanctl creds whoami; spanctl creds"
        " check.",
    ),
    "key_withdrawn": Explanation(
        ExitCode.NOT_FOUND,
        "The key that signed who asked is not published by its account, or not any more.",
        "The receipt claims who asked, and nothing proves it: spanctl audit ID. Look whether the"
        " account still exists.",
    ),
    "not_found": Explanation(
        ExitCode.NOT_FOUND,
        "What was named does not exist where it was looked for.",
        "List what there is: spanctl audit list --since 7d; spanctl context list; spanctl creds"
        " list. Is it the right database? spanctl context show.",
    ),
    "conflict": Explanation(
        ExitCode.CONFLICT,
        "The state of things forbids this: somebody else is at it, or it has been done already.",
        "Look at what there is before trying again: spanctl audit ID, or spanctl txn list.",
    ),
    "ambiguous_id": Explanation(
        ExitCode.CONFLICT,
        "A prefix or a name fits more than one thing.",
        "Give more characters, or one of the ids that the hint lists: spanctl audit ID.",
    ),
    "duplicate_key": Explanation(
        ExitCode.CONFLICT,
        "A row of the file has a primary key, or an entry of a unique index, that the table has"
        " already or that an earlier line of the file has. Its line is named; the key itself is"
        " shown on a terminal only.",
        "Leave out rows that are there: spanctl run import FILE --mode insert-absent. Overwrite"
        " them: --mode upsert. What is in already is listed by spanctl audit list.",
    ),
    "key_reused": Explanation(
        ExitCode.CONFLICT,
        "The idempotency key or operation key was used before with other arguments, or by another"
        " function of the same name. It was neither run nor replayed.",
        "See what was done under it: spanctl audit KEY. Pass the same arguments, or another key."
        " Outside of flows give each program's job a name: with using(job=...).",
    ),
    "typed_again": Explanation(
        ExitCode.CONFLICT,
        "The same SQL was typed before by the same person, and that run never ended: its process"
        " was killed, or could not find out what came of its transaction. Nothing was applied now.",
        "See what the first one did: spanctl audit TXN. Go on with it: spanctl run sql --resume"
        " RUN. Apply it once more: spanctl run sql --new.",
    ),
    "key_closed": Explanation(
        ExitCode.CONFLICT,
        "An operator fenced the operation: it can't commit any more.",
        "See who and why: spanctl audit ID. Let it run again: spanctl txn reopen ID --reason WHY.",
    ),
    "other_database": Explanation(
        ExitCode.CONFLICT,
        "The ledger's rows name another database than the one they lie in: this is a copy, a clone"
        " or a restore of that one. Nothing was written; reading and audit go on.",
        "Is it the right database? spanctl context show. To write here from now on, give the ledger"
        " an id of its own: spanctl init --adopt.",
    ),
    "schema_version": Explanation(
        ExitCode.CONFLICT,
        "The ledger is missing in this database, or of a version that this spanctl doesn't know.",
        "Install or complete it: spanctl init. If it is newer than this spanctl, update spanctl"
        " (spanctl --version).",
    ),
    "etag_conflict": Explanation(
        ExitCode.CONFLICT,
        "The secret was changed by somebody else since it was read: nothing was written.",
        "See who is rotating it: spanctl creds show NAME. Then run the command again.",
    ),
    "version_state": Explanation(
        ExitCode.CONFLICT,
        "The secret's version is disabled or destroyed.",
        "See the versions: spanctl creds show NAME. Make a new one: spanctl creds rotate NAME.",
    ),
    "verification": Explanation(
        ExitCode.VERIFICATION_FAILED,
        "A proof, a signature or a digest does not hold: something is not what it says it is.",
        "Keep things as they are, and look at what the receipt says: spanctl audit ID -o json.",
    ),
    "pending": Explanation(
        ExitCode.PENDING,
        "It was not finished when the waiting time was over. It goes on.",
        "Look at it again later: spanctl audit ID; or wait longer with --timeout.",
    ),
    "outcome_unknown": Explanation(
        ExitCode.UNKNOWN,
        "The answer to a Commit was lost and the database can't be reached to tell. Running the"
        " same operation again is safe: it is never applied twice.",
        "Once the database answers, have it told for good: spanctl txn resolve ID; all of them:"
        " spanctl txn list --unresolved.",
    ),
    "transaction_failed": Explanation(
        ExitCode.FAILED,
        "The transaction did not commit, for good. Nothing of it is in the database.",
        "See what is recorded: spanctl audit ID. Mend the cause and run it again.",
    ),
    "statement_failed": Explanation(
        ExitCode.FAILED,
        "Spanner refused a statement or a mutation; nothing of its transaction was committed."
        " Its own words may hold values: they are whole on a terminal only, else masked.",
        "Run it again on a terminal to read them; try it without committing:"
        " spanctl run sql --dry-run -e ...",
    ),
    "limit": Explanation(
        ExitCode.FAILED,
        "It is over one of Spanner's limits for a commit or a statement, and was not sent.",
        "Cut it into smaller transactions, each with a key of its own; files are cut by"
        " spanctl run import, with --chunk-rows.",
    ),
    "deadline": Explanation(
        ExitCode.FAILED,
        "The deadline ended while Spanner aborted every attempt, mostly because others hold the"
        " same locks. It did not commit.",
        "Look who else is writing: spanctl txn list. Run it again, with a longer --timeout.",
    ),
    "step_idle": Explanation(
        ExitCode.FAILED,
        "The body of a transaction sent nothing for 8 s: Spanner releases the locks of what is"
        " silent for 10. It did not commit.",
        "Do what takes time (requests, files, sleeping) before the transaction, and run it again:"
        " spanctl run TARGET.",
    ),
    "flow_failed": Explanation(
        ExitCode.FAILED,
        "The flow run ended in a failed state. What it had committed before stays committed.",
        "See what is in and what isn't: spanctl audit RUN. An --idempotency-key lets the same"
        " command go on.",
    ),
    "superseded": Explanation(
        ExitCode.CANCELLED,
        "A recovery counts this process as dead, so it writes nothing any more; its run goes on in"
        " another one, or has ended.",
        "See where it goes on: spanctl runs list; what it had committed stays: spanctl audit RUN.",
    ),
    "flow_cancelled": Explanation(
        ExitCode.CANCELLED,
        "The flow run was cancelled, crashed, or was ended by --timeout.",
        "See what is in and what isn't: spanctl audit RUN; what is left open: spanctl txn list"
        " --unresolved.",
    ),
    "declined": Explanation(
        ExitCode.FAILED,
        "The question was not answered with yes. Nothing was done.",
        "Run it again and answer y, or agree beforehand: spanctl COMMAND --yes.",
    ),
    "interrupted": Explanation(
        ExitCode.INTERRUPTED,
        "Ctrl-C. What ran in this process was rolled back or resolved; a deployment's run goes on.",
        "See what became of it: spanctl audit RUN; what is left open: spanctl txn list"
        " --unresolved.",
    ),
    "terminated": Explanation(
        ExitCode.TERMINATED,
        "SIGTERM. What ran in this process was rolled back or resolved; a deployment's run goes"
        " on.",
        "See what became of it: spanctl audit RUN; what is left open: spanctl txn list"
        " --unresolved.",
    ),
    "system_exit": Explanation(
        ExitCode.FAILED,
        "Code that spanctl ran called sys.exit(): the flow, or a library that it uses.",
        "Raise an error or return instead. See what is committed: spanctl audit list.",
    ),
    "internal": Explanation(
        ExitCode.FAILED,
        "A bug in spanctl. The lines below the message say where; values are left out of them.",
        "Report it with these lines. The error's own text, which may hold data, is shown by"
        " spanctl --verbose COMMAND. What is committed is listed by spanctl audit list.",
    ),
}
"""Error code to what it means; a test holds it against every error class."""
