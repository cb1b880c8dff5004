"""Raw events as a file: JSON lines or Parquet, made while it is sent."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request

from accounts.api.authentication import CallerKind
from accounts.api.fields import CustomerField, TextField
from accounts.api.streaming import AnyAnswer, Download
from accounts.api.views import ManagementView
from accounts.models import Customer
from metering.api.events import event_body, meter_keys
from metering.api.fields import MeterField, SpanQuery
from metering.queries.event_exports import pages_of_events
from metering.queries.events import events

MEDIA_TYPES: Final = {
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
_ROW_GROUP: Final = 10_000
Body = dict[str, Any]


class MyExportQuery(SpanQuery):
    """Which events, and as what."""

    meter = MeterField(required=False)
    type = TextField(required=False)
    source = TextField(required=False)  # type: ignore[assignment]  # a member
    format = serializers.ChoiceField(choices=list(MEDIA_TYPES), default="jsonl")

    def validate_format(self, value: str) -> str:
        """Refuse what this server cannot write."""
        if value == "parquet" and importlib.util.find_spec("pyarrow") is None:
            sentence = (
                "This server writes no Parquet: ask for jsonl, or have its operator install the"
                ' extra: pip install "farebox[parquet]".'
            )
            raise ValidationError([ErrorDetail(sentence, code="invalid")])
        return value


class ExportQuery(MyExportQuery):
    """As `/me/events/export`, of one customer."""

    customer = CustomerField()


_ANSWERS: Final = {(200, media_type): OpenApiTypes.BINARY for media_type in MEDIA_TYPES.values()}


class ExportEvents(ManagementView):
    """Usage events of a customer as a file."""

    scopes = {"GET": "events:read"}
    content_negotiation_class = AnyAnswer

    @extend_schema(summary="Download usage events", parameters=[ExportQuery], responses=_ANSWERS)
    def get(self, request: Request) -> Download:
        """Download a customer's events, the earliest first, each as lists show it.

        With those that were received until now, however many; JSON lines, or Parquet with
        properties as JSON.
        """
        asked = self.query(ExportQuery)
        customer: Customer = asked["customer"]
        return event_download(customer, asked, request._request, now=self.now)  # noqa: SLF001


class MyEventExport(ManagementView):
    """Usage events of the customer whose key this is, as a file."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"customer"})
    content_negotiation_class = AnyAnswer

    @extend_schema(
        summary="Download this customer's usage events",
        parameters=[MyExportQuery],
        responses=_ANSWERS,
    )
    def get(self, request: Request) -> Download:
        """Download this customer's events, the earliest first, each as lists show it."""
        asked = self.query(MyExportQuery)
        customer = Customer.objects.get(id=self.customer_id)
        return event_download(customer, asked, request._request, now=self.now)  # noqa: SLF001


def event_download(
    customer: Customer, asked: dict[str, Any], request: HttpRequest, *, now: datetime
) -> Download:
    """The customer's events that a validated MyExportQuery asks for."""
    found = events(
        customer.id,
        meter_id=asked["meter"].id if "meter" in asked else None,
        event_type=asked.get("type"),
        source=asked.get("source"),
        start_at=asked.get("from"),
        end_at=asked.get("to"),
    )
    pages = _bodies(pages_of_events(found, customer_id=customer.id, received_before=now))
    kind = asked["format"]
    return Download(
        jsonl_chunks(pages) if kind == "jsonl" else parquet_chunks(pages),
        request,
        name=f"events-{customer.public_id}-{now:%Y%m%dT%H%M%SZ}.{kind}",
        media_type=MEDIA_TYPES[kind],
    )


def _bodies(pages: Iterable[list[Any]]) -> Iterator[list[Body]]:
    for page in pages:
        meters = meter_keys(page)
        yield [event_body(each, meters) for each in page]


def jsonl_chunks(pages: Iterable[list[Body]]) -> Generator[bytes]:
    """A line each, a page at a time."""
    encoder = msgspec.json.Encoder()
    for page in pages:
        yield encoder.encode_lines(page)


def parquet_chunks(pages: Iterable[list[Body]]) -> Generator[bytes]:
    """A Parquet file as it grows, one group of rows in memory at a time."""
    import pyarrow
    import pyarrow.parquet

    moment = pyarrow.timestamp("us", tz="UTC")
    counted = pyarrow.struct(
        [("meter", pyarrow.string()), ("quantity", pyarrow.int64()), ("member", pyarrow.string())]
    )
    texts = ("id", "customer", "source", "external_id", "type")
    flags = ("from_hold", "late", "over_hold")
    schema = pyarrow.schema(
        [
            *((name, pyarrow.string()) for name in texts),
            *((name, moment) for name in ("occurred_at", "received_at")),
            ("usage", pyarrow.list_(counted)),
            *((name, pyarrow.string()) for name in ("properties", "gateway", "api_key")),
            *((name, pyarrow.bool_()) for name in flags),
            *((name, pyarrow.string()) for name in ("corrected", "original")),
        ]
    )
    written = _Written()
    with pyarrow.parquet.ParquetWriter(written, schema, compression="zstd") as writer:
        rows: list[Body] = []
        for page in pages:
            rows += [_row(body) for body in page]
            if len(rows) >= _ROW_GROUP:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                rows = []
                yield written.taken()
        if rows:
            writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
    yield written.taken()


def _row(body: Body) -> Body:
    """An event in the columns of Parquet: whatever has members of its own names is JSON."""
    original = body["original"]
    return body | {
        "occurred_at": datetime.fromisoformat(body["occurred_at"]),
        "received_at": datetime.fromisoformat(body["received_at"]),
        "properties": json.dumps(body["properties"]),
        "original": None if original is None else json.dumps(original),
    }


class _Written:
    """A file of which only what was not taken yet is kept."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def write(self, part: bytes) -> int:
        self._parts.append(bytes(part))
        self._length += len(part)
        return len(part)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """What was written is still to be taken."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)
