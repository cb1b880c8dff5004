"""The gate: the hot paths as one ASGI callable without Django.

Calls that arrive while a write is under way wait for the next one and go together: one decide
loop, one statement (docs/gate.md).
"""
