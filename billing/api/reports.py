"""Reports as CSV: usage and invoice lines, streamed row by row."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import Any, Final

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from accounts.api.fields import CustomerField, InstantField
from accounts.api.serializing import StrictSerializer
from accounts.api.streaming import AnyAnswer, Download
from accounts.api.views import ManagementView
from billing.queries.reports import Row, invoice_line_rows, usage_rows

ROWS_AT_ONCE: Final = 500
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
Rows = Callable[..., Iterator[Row]]


class MomentField(InstantField):
    """An instant, or a date, which is its midnight in UTC."""

    def to_internal_value(self, value: Any) -> datetime:
        """Return the instant in UTC."""
        if isinstance(value, str) and _DATE.fullmatch(value):
            value = f"{value}T00:00:00Z"
        return super().to_internal_value(value)


class SpanQuery(StrictSerializer):
    """`from` and `to`, half-open, and optionally one customer."""

    customer = CustomerField(required=False)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """`from` is a word of Python, so the fields are added by name."""
        return {"from": MomentField(), "to": MomentField(), **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a span that is empty."""
        if attrs["from"] >= attrs["to"]:
            raise ValidationError({"to": [ErrorDetail("This must be after `from`.", "invalid")]})
        return attrs


def _describe(summary: str) -> Callable[[Any], Any]:
    moment = "RFC 3339 time with an offset, or a date (its midnight in UTC)."
    return extend_schema(
        summary=summary,
        parameters=[
            OpenApiParameter("from", str, required=True, description=moment),
            OpenApiParameter("to", str, required=True, description=moment),
            OpenApiParameter("customer", str, description="`cus_…` or external id; else all."),
        ],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )


class Report(ManagementView):
    """What all reports share."""

    scopes = {"GET": "reports:read"}
    content_negotiation_class = AnyAnswer

    def csv(self, rows: Rows, *, name: str) -> Download:
        """The rows of the asked span as a file to download."""
        asked = self.query(SpanQuery)
        customer = asked.get("customer")
        found = rows(
            start_at=asked["from"],
            end_at=asked["to"],
            customer_id=customer.id if customer else None,
        )
        filename = f"{name}-{asked['from']:%Y%m%d}-{asked['to']:%Y%m%d}.csv"
        return Download(
            csv_chunks(found),
            self.request._request,  # noqa: SLF001
            name=filename,
            media_type="text/csv; charset=utf-8",
        )


class UsageReport(Report):
    """Usage as it was invoiced."""

    @_describe("Download invoiced usage as CSV")
    def get(self, request: Request) -> Download:  # noqa: ARG002
        """Download what was used and billed of each meter on invoices of periods that ended."""
        return self.csv(usage_rows, name="usage")


class InvoiceLineReport(Report):
    """Invoice lines."""

    @_describe("Download invoice lines as CSV")
    def get(self, request: Request) -> Download:  # noqa: ARG002
        """Download every line of the invoices of periods that ended; they sum up to the totals."""
        return self.csv(invoice_line_rows, name="invoice-lines")


def safe_cell(value: str) -> str:
    """The value as a spreadsheet shows it and never runs it: formulas get an apostrophe."""
    if value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def csv_chunks(rows: Iterable[Row]) -> Generator[bytes]:
    """RFC 4180, UTF-8, some hundred rows at a time."""
    left = iter(rows)
    while some := list(islice(left, ROWS_AT_ONCE)):
        text = io.StringIO()
        csv.writer(text).writerows([safe_cell(cell) for cell in row] for row in some)
        yield text.getvalue().encode()
