"""Price tables: make, draft a version, compare, activate."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.http import Http404
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.describing import describe
from accounts.api.fields import InstantField, KeyField, PublicIdField, TextField
from accounts.api.serializing import StrictSerializer
from accounts.api.views import ManagementView
from metering.domain.prices import TOKEN_CLASSES, described, price_of, price_text
from metering.models import PriceTable, PriceTableVersion, TokenPrice
from metering.operations import pricing
from metering.queries.prices import difference_of, predecessor_of, price_table_by_key

_PRICES_MAX = 20_000
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")


class PriceTableShape(serializers.Serializer[PriceTable]):
    """A price table; its prices are in its versions."""

    id = PublicIdField(PriceTable.PREFIX, source="pk")
    key = serializers.CharField()
    name = serializers.CharField()
    currency = serializers.CharField()
    created_at = InstantField()


class NewPriceTable(StrictSerializer):
    """A price table to be made; prices are in the currency's main unit."""

    key = KeyField()
    name = TextField(max_length=200, required=False, allow_blank=True)
    currency = TextField(max_length=3, required=False)


class PricesShape(serializers.Serializer[PriceTableVersion]):
    """A version; a draft counts nothing, an active one from `effective_at` on."""

    number = serializers.IntegerField()
    status = serializers.ChoiceField(choices=["draft", "active"])
    source = serializers.CharField()  # type: ignore[assignment]  # a member
    sha256 = serializers.CharField()
    effective_at = InstantField(allow_null=True)
    created_at = InstantField()


@extend_schema_field({"type": "string", "format": "decimal", "example": "0.00000015"})
class PriceField(serializers.Field[Decimal, Any, str, Any]):
    """A price per token as decimal text, at most 18 places."""

    def to_internal_value(self, data: Any) -> Decimal:
        """Refuse numbers: a JSON number may have lost its last digits on the way."""
        try:
            return price_of(data if isinstance(data, str) else "")
        except ValueError as error:
            raise ValidationError(
                [ErrorDetail(f"This must be a decimal in quotes: {error}.", code="invalid")]
            ) from error

    def to_representation(self, value: Any) -> str:
        """The price without zeros at its end."""
        return price_text(value) or ""


class ModelPrices(StrictSerializer):
    """What one token of each class costs of a model: a name, `beginning*`, or `*`."""

    model = TextField(max_length=200)

    def get_fields(self) -> dict[str, Any]:
        """A member for each token class."""
        classes = {name: PriceField(required=False) for name in TOKEN_CLASSES}
        return {**super().get_fields(), **classes}


class NewPrices(StrictSerializer):
    """All prices of a version; it takes the place of the one before, whole."""

    source = TextField(  # type: ignore[assignment]  # a member
        max_length=200, required=False, allow_blank=True
    )
    prices = serializers.ListField(child=ModelPrices(), min_length=1, max_length=_PRICES_MAX)


class PricesActivation(StrictSerializer):
    """From when on a version's prices stand; as soon as may be where nothing is said."""

    effective_at = InstantField(required=False, allow_null=True)


class TokenPriceShape(serializers.Serializer[TokenPrice]):
    """The price per token of a model and class."""

    model = serializers.CharField()
    token_class = serializers.CharField()
    price = PriceField()


class PriceChangeShape(serializers.Serializer[Any]):
    """A price that differs; `percent` of the old one."""

    model = serializers.CharField()
    before = serializers.CharField(allow_null=True)
    after = serializers.CharField(allow_null=True)
    percent = serializers.CharField(allow_null=True)

    def get_fields(self) -> dict[str, Any]:
        """Add the member whose name Python keeps for itself."""
        return {**super().get_fields(), "class": serializers.CharField()}


class PricesDiffShape(serializers.Serializer[Any]):
    """What a version changes against another (null: against nothing)."""

    version = serializers.IntegerField()
    compared_with = serializers.IntegerField(allow_null=True)
    added = PriceChangeShape(many=True)
    changed = PriceChangeShape(many=True)
    removed = PriceChangeShape(many=True)


class DiffQuery(StrictSerializer):
    """Which version to compare with; the one whose place it takes where nothing is said."""

    base = serializers.IntegerField(required=False, min_value=1)


class PriceTables(ManagementView):
    """All price tables."""

    scopes = {"GET": "meters:read", "POST": "meters:write"}

    @describe("List price tables", answer=PriceTableShape, page=True)
    def get(self, request: Request) -> Response:  # noqa: ARG002
        """List price tables, newest first."""
        self.query()
        return self.page(PriceTable.objects.all(), PriceTableShape)

    @describe("Make a price table", body=NewPriceTable, answer=PriceTableShape, status=201)
    def post(self, request: Request) -> Response:  # noqa: ARG002
        """Make a price table; it prices nothing until a version is active."""
        table = pricing.create_price_table(
            **self.body(NewPriceTable), actor=self.actor, now=self.now
        )
        return Response(PriceTableShape(table).data, status=201)


class OnePriceTable(ManagementView):
    """One price table, by its key."""

    scopes = {"GET": "meters:read"}

    @describe("See a price table", answer=PriceTableShape)
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """See a price table."""
        self.query()
        return Response(PriceTableShape(_table_of(key)).data)


class Versions(ManagementView):
    """The versions of a price table."""

    scopes = {"GET": "meters:read", "POST": "meters:write"}
    body_max = 8_000_000

    @describe("List versions of a price table", answer=PricesShape, page=True)
    def get(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """List versions, newest first."""
        self.query()
        return self.page(PriceTableVersion.objects.filter(table=_table_of(key)), PricesShape)

    @describe("Draft prices", body=NewPrices, answer=PricesShape, status=201)
    def post(self, request: Request, key: str) -> Response:  # noqa: ARG002
        """Write the prices of a new version; they count nothing until it is activated."""
        table = _table_of(key)
        body = self.body(NewPrices)
        prices: dict[tuple[str, str], Decimal] = {}
        for row in body["prices"]:
            model = row.pop("model")
            if not row or any((model, name) in prices for name in row):
                raise _refused("prices", f"{model}: name each price once, and one at least.")
            prices |= {(model, name): price for name, price in row.items()}
        version = pricing.draft_prices(
            table.id,
            prices=prices,
            source=body.get("source", ""),
            actor=self.actor,
            now=self.now,
        )
        return Response(PricesShape(version).data, status=201)


class VersionPrices(ManagementView):
    """The prices of a version."""

    scopes = {"GET": "meters:read"}

    @describe("List the prices of a version", answer=TokenPriceShape, page=True)
    def get(self, request: Request, key: str, number: str) -> Response:  # noqa: ARG002
        """List prices by model and class."""
        self.query()
        version = _version_of(_table_of(key), number)
        found = TokenPrice.objects.filter(version=version)
        return self.page(found, TokenPriceShape, ordering=("model", "token_class"))


class VersionDiff(ManagementView):
    """What a version changes."""

    scopes = {"GET": "meters:read"}

    @describe("Compare a version", answer=PricesDiffShape, query=DiffQuery)
    def get(self, request: Request, key: str, number: str) -> Response:  # noqa: ARG002
        """Compare a version with the one whose place it takes, or with another."""
        asked = self.query(DiffQuery)
        table = _table_of(key)
        version = _version_of(table, number)
        base = predecessor_of(version)
        if "base" in asked:
            base = _version_of(table, str(asked["base"]))
        return Response(
            {
                "version": version.number,
                "compared_with": None if base is None else base.number,
                **described(difference_of(version, base=base)),
            }
        )


class ActivateVersion(ManagementView):
    """Let a version's prices stand."""

    scopes = {"POST": "meters:write"}

    @describe("Activate a version", body=PricesActivation, answer=PricesShape)
    def post(self, request: Request, key: str, number: str) -> Response:  # noqa: ARG002
        """Activate a version: from its time on it prices what occurs, and never changes."""
        body = self.body(PricesActivation)
        table = _table_of(key)
        version = pricing.activate_prices(
            table.id,
            number=_version_of(table, number).number,
            effective_at=body.get("effective_at"),
            ahead=timedelta(seconds=settings.EVENT_MAX_AHEAD_S),
            actor=self.actor,
            now=self.now,
        )
        return Response(PricesShape(version).data)


def _table_of(key: str) -> PriceTable:
    table = price_table_by_key(key)
    if table is None:
        raise Http404("There is no such price table.")
    return table


def _version_of(table: PriceTable, number: str) -> PriceTableVersion:
    found = None
    if _NUMBER.fullmatch(number):
        found = PriceTableVersion.objects.filter(table=table, number=int(number)).first()
    if found is None:
        raise Http404("The price table has no such version.")
    return found


def _refused(param: str, sentence: str) -> ValidationError:
    return ValidationError({param: [ErrorDetail(sentence, code="invalid")]})
