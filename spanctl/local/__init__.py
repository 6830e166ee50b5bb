"""The local stack: the Spanner emulator, a Prefect server and a worker, on loopback.

:class:`spanctl.local.stack.Stack` starts, stops and watches it.
"""
