"""A development server that speaks the Stripe calls this project makes, with state.

It answers the real `stripe` library over HTTP: idempotency keys, invoices that are numbered and
charged, test cards, pages to click, signed webhooks, and a clock that can be moved. Run it with
`python -m billing.payments.simulator`, or in a test with `with Simulator() as stripe:`.
"""

from billing.payments.simulator.browsing import enter_card
from billing.payments.simulator.simulator import Simulator

__all__ = ["Simulator", "enter_card"]
