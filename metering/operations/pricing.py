"""Price tables: make one, draft a version of its prices, activate it from a time on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import IntegrityError, transaction

from accounts.operations.auditing import audit
from accounts.operations.versions import bump_catalogue
from metering.domain.prices import PRICE_MAX, TOKEN_CLASSES, scaled
from metering.models import PriceTable, PriceTableVersion, TokenPrice
from metering.queries.prices import newest_active

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_CURRENCY = re.compile(r"[a-z]{3}")
_MODEL_MAX = 200
_PRICES_MAX = 50_000
Prices = Mapping[tuple[str, str], Decimal]  # (model, token class) -> price per token


class PriceTableKeyTaken(Exception):
    """Another price table has this key."""


class PricesInvalid(Exception):
    """Prices or their table cannot be like this; `param` names the member at fault."""

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail)
        self.param = param
        self.detail = detail


class PriceVersionUnknown(Exception):
    """The price table has no version of that number."""


class PriceVersionActive(Exception):
    """The version is active: its prices and its time stay as they are."""


def create_price_table(
    *, key: str, name: str = "", currency: str = "usd", actor: str, now: datetime
) -> PriceTable:
    """Make a price table without prices. Raises PricesInvalid, PriceTableKeyTaken."""
    if not _KEY.fullmatch(key):
        raise PricesInvalid("key", "a key has 1 to 100 letters, digits and . _ : -, and no blanks")
    if not _CURRENCY.fullmatch(currency):
        raise PricesInvalid("currency", "a currency is three small letters, as in ISO 4217: usd")
    with transaction.atomic():
        try:
            with transaction.atomic():
                table = PriceTable.objects.create(
                    key=key, name=name, currency=currency, created_at=now
                )
        except IntegrityError as error:
            raise PriceTableKeyTaken(f"a price table with the key {key!r} exists") from error
        audit(
            actor=actor,
            action="price_table.created",
            subject=table.public_id,
            changes={"key": key, "currency": currency},
            now=now,
        )
    return table


def draft_prices(
    table_id: int,
    *,
    prices: Prices,
    source: str = "",
    sha256: str = "",
    actor: str,
    now: datetime,
) -> PriceTableVersion:
    """Write all prices of a new version, which counts nothing until it is activated.

    `prices` are per token in the main unit of the currency, at most 18 places; `sha256` is of the
    data they were read from (else of the prices themselves). A newest draft with the
    same hash and source is returned as it is. Raises PricesInvalid.
    """
    check_prices(prices)
    digest = sha256 or digest_of(prices)
    with transaction.atomic():
        table = PriceTable.objects.select_for_update().get(id=table_id)
        newest = table.versions.order_by("-number").first()
        made_of = (None, digest, source[:200])
        if newest is not None and made_of == (newest.effective_at, newest.sha256, newest.source):
            return newest
        version = PriceTableVersion.objects.create(
            table=table,
            number=1 if newest is None else newest.number + 1,
            source=source[:200],
            sha256=digest,
            created_at=now,
            created_by=actor,
        )
        TokenPrice.objects.bulk_create(
            (
                TokenPrice(version=version, model=model, token_class=name, price=price)
                for (model, name), price in sorted(prices.items())
            ),
            batch_size=5_000,
        )
        audit(
            actor=actor,
            action="price_table.drafted",
            subject=table.public_id,
            changes={"version": version.number, "source": source, "sha256": digest},
            now=now,
        )
    return version


def activate_prices(
    table_id: int,
    *,
    number: int,
    effective_at: datetime | None = None,
    ahead: timedelta,
    actor: str,
    now: datetime,
) -> PriceTableVersion:
    """Let a version's prices stand from a time on, for what occurs from then, until the next one.

    The table's first version may begin at any time (unless told, at the Unix epoch: so that late
    events have prices too). A later one begins after all others and at least `ahead` (how far an
    event's time may lie ahead) from now, so that nothing was counted that it is for; unless told,
    then. Repeating it with the same time changes nothing. Raises PriceVersionUnknown,
    PriceVersionActive, PricesInvalid.
    """
    with transaction.atomic():
        table = PriceTable.objects.select_for_update().get(id=table_id)
        version = PriceTableVersion.objects.filter(table=table, number=number).first()
        if version is None:
            raise PriceVersionUnknown(f"the price table {table.key!r} has no version {number}")
        if version.effective_at is not None:
            if effective_at in (None, version.effective_at):
                return version
            raise PriceVersionActive(
                f"version {number} stands from {version.effective_at.isoformat()}"
            )
        version.effective_at = _beginning(table, effective_at, ahead=ahead, now=now)
        version.activated_at = now
        version.save(update_fields=["effective_at", "activated_at"])
        bump_catalogue()
        audit(
            actor=actor,
            action="price_table.activated",
            subject=table.public_id,
            changes={"version": number, "effective_at": version.effective_at.isoformat()},
            now=now,
        )
    return version


def check_prices(prices: Prices) -> None:
    """Raise PricesInvalid where a version cannot have these prices."""
    if not 1 <= len(prices) <= _PRICES_MAX:
        raise PricesInvalid("prices", f"a version has 1 to {_PRICES_MAX:,} prices")
    for (model, name), price in prices.items():
        star = model.find("*")
        if not 1 <= len(model) <= _MODEL_MAX or "\x00" in model or 0 <= star < len(model) - 1:
            raise PricesInvalid(
                "prices.model",
                f"a model is a name of 1 to {_MODEL_MAX} characters, with * only at its end",
            )
        if name not in TOKEN_CLASSES:
            raise PricesInvalid("prices", f"a token class is one of {', '.join(TOKEN_CLASSES)}")
        try:
            scaled(price)
        except ValueError as error:
            raise PricesInvalid(f"prices.{name}", f"{model}: {error}") from error
        if not 0 <= price <= PRICE_MAX:
            raise PricesInvalid(f"prices.{name}", f"{model}: a price is from 0 to {PRICE_MAX:,}")


def digest_of(prices: Prices) -> str:
    """SHA-256 of prices, whatever their order."""
    lines = (f"{model}\t{name}\t{scaled(each)}" for (model, name), each in sorted(prices.items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _beginning(
    table: PriceTable, asked: datetime | None, *, ahead: timedelta, now: datetime
) -> datetime:
    newest = newest_active(table.id)
    if newest is None:
        return asked or datetime(1970, 1, 1, tzinfo=now.tzinfo)
    assert newest.effective_at is not None
    first = now + ahead
    begins_at = first if asked is None else asked
    if begins_at < first:
        seconds = int(ahead.total_seconds())
        raise PricesInvalid(
            "effective_at",
            f"new prices begin at least {seconds} s from now: what occurred is priced already",
        )
    if begins_at <= newest.effective_at:
        raise PricesInvalid(
            "effective_at",
            f"version {newest.number} begins at {newest.effective_at.isoformat()}",
        )
    return begins_at
