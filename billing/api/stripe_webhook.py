"""Where Stripe tells us what happened: verify, keep, answer. Applying it is for a task."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import structlog
from django.db import transaction
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.api.parsing import BodyTooLarge
from billing import tasks
from billing.payments import inbox

BODY_MAX: Final = 262_144
log = structlog.get_logger(__name__)


class StripeWebhook(APIView):
    """POST, signed by Stripe; the signature is the only credential.

    200 once the event is kept, also where it was kept before; 400 `signature_invalid` or
    `body_malformed`, 413 `body_too_large`, and then nothing is kept.
    """

    authentication_classes = ()
    permission_classes = ()
    renderer_classes = (JSONRenderer,)
    schema = None

    def post(self, request: Request) -> Response:
        """Keep the event in the raw body."""
        event = inbox.store(
            _raw_body(request),
            signature=request.headers.get("Stripe-Signature", ""),
            now=datetime.now(UTC),
        )
        if event is not None:
            transaction.on_commit(_nudge)
        return Response({"received": True, "known": event is None})


def _raw_body(request: Request) -> bytes:
    announced = str(request.META.get("CONTENT_LENGTH") or "0")
    if announced.isdigit() and int(announced) > BODY_MAX:
        raise BodyTooLarge(f"An event may have {BODY_MAX:,} bytes at most.")
    # Django's request: DRF would parse the body, and the signature covers the very bytes.
    raw: bytes = request._request.body  # noqa: SLF001
    if len(raw) > BODY_MAX:
        raise BodyTooLarge(f"An event may have {BODY_MAX:,} bytes at most.")
    return raw


def _nudge() -> None:
    """Wake a worker. Without a broker the beat finds the event a little later."""
    try:
        tasks.process_stripe_events.delay()
    except Exception:
        # Whatever a broker may raise: the event is kept, and Stripe shall not send it again.
        log.exception("broker_unreachable", task="billing.process_stripe_events")
