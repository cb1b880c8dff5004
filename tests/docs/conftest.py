"""The live service of the flows, for documents that call it."""

from __future__ import annotations

from tests.flows.conftest import live, server, server_log, stripe_of_the_session

__all__ = ["live", "server", "server_log", "stripe_of_the_session"]
