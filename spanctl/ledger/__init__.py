"""What a transaction leaves behind, as values: keys, receipts and their canonical form.

Pure: no SDK, no orchestrator, no terminal.
"""
