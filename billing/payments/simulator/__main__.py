"""`python -m billing.payments.simulator`: serve until interrupted."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from billing.payments.simulator.simulator import Simulator


def main(arguments: list[str] | None = None) -> int:
    """Serve; return 1 with one sentence when the port is taken or the file cannot be opened."""
    parser = argparse.ArgumentParser(prog="python -m billing.payments.simulator")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8403)
    parser.add_argument("--database", default=":memory:", help="SQLite file; memory by default")
    parser.add_argument("--webhook", help="URL that gets every event")
    parser.add_argument("--secret", help="whsec_... that signs webhooks; random by default")
    parser.add_argument("--key", help="the only API key to accept; any sk_test_... by default")
    parser.add_argument("--public-url", help="address of the pages, as browsers see it")
    chosen = parser.parse_args(arguments)
    try:
        simulator = Simulator(
            host=chosen.host,
            port=chosen.port,
            database=chosen.database,
            webhook=chosen.webhook,
            webhook_secret=chosen.secret,
            api_key=chosen.key,
            public_url=chosen.public_url,
        )
    except OSError as error:
        sys.stderr.write(f"The Stripe simulator cannot listen on port {chosen.port}: {error}\n")
        return 1
    sys.stdout.write(f"Stripe simulator at {simulator.url}\n")
    if chosen.webhook and not chosen.secret:
        sys.stdout.write(f"Webhooks are signed with {simulator.webhook_secret}\n")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        simulator.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
