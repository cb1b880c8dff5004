"""The live service of the flows, for documents that call it."""

from __future__ import annotations

from tests.flows.conftest import live, server, stripe_of_the_session

__all__ = ["live", "server", "stripe_of_the_session"]
