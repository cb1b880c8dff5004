"""Everything that is kept of a customer, as a file."""

from __future__ import annotations

from collections.abc import Generator
from itertools import islice
from typing import Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from accounts.api.customers import customer_of
from accounts.api.streaming import AnyAnswer, Download
from accounts.api.views import ManagementView
from accounts.operations.auditing import audit
from billing.queries.customer_data import customer_data

MEDIA_TYPE: Final = "application/x-ndjson"
_ROWS_AT_ONCE: Final = 500


class ExportCustomer(ManagementView):
    """What is kept of a customer."""

    scopes = {"GET": "admin"}
    content_negotiation_class = AnyAnswer

    @extend_schema(
        summary="Download a customer's data", responses={(200, MEDIA_TYPE): OpenApiTypes.BINARY}
    )
    def get(self, request: Request, reference: str) -> Download:
        """Download every row kept of a customer as JSON lines, of one snapshot; it is audited."""
        self.query()
        customer = customer_of(reference)
        audit(
            actor=self.actor,
            action="customer.exported",
            subject=customer.public_id,
            customer_id=customer.id,
            now=self.now,
        )
        return Download(
            _chunks(customer.id),
            request._request,  # noqa: SLF001
            name=f"{customer.public_id}-{self.now:%Y%m%dT%H%M%SZ}.jsonl",
            media_type=MEDIA_TYPE,
        )


def _chunks(customer_id: int) -> Generator[bytes]:
    rows = customer_data(customer_id)
    try:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            yield "".join(f"{text}\n" for text in some).encode()
    finally:
        rows.close()
