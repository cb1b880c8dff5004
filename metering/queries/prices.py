"""Price tables as they are counted with, and as people compare them."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from metering.domain.prices import PriceBook, PriceDiff, PriceSchedule, difference, scaled
from metering.models import PriceTable, PriceTableVersion, TokenPrice

_BOOKS_KEPT = 32


def price_table_by_key(key: str) -> PriceTable | None:
    """The price table with this key."""
    return PriceTable.objects.filter(key=key).first() if "\x00" not in key else None


def price_schedule(table_id: int) -> PriceSchedule:
    """All versions of a table that stand or will."""
    active = list(
        PriceTableVersion.objects.filter(table_id=table_id, effective_at__isnull=False).order_by(
            "effective_at"
        )
    )
    starts = tuple(each.effective_at for each in active if each.effective_at is not None)
    return PriceSchedule(
        key=PriceTable.objects.get(id=table_id).key,
        starts=starts,
        books=tuple(_book(each.id) for each in active),
    )


def newest_active(table_id: int) -> PriceTableVersion | None:
    """The active version that begins last, if any: what a new one is compared with."""
    return (
        PriceTableVersion.objects.filter(table_id=table_id, effective_at__isnull=False)
        .order_by("-effective_at")
        .first()
    )


def predecessor_of(version: PriceTableVersion) -> PriceTableVersion | None:
    """The version whose place this one takes: of a draft the newest active one, if any."""
    if version.effective_at is None:
        return newest_active(version.table_id)
    return (
        PriceTableVersion.objects.filter(
            table_id=version.table_id, effective_at__lt=version.effective_at
        )
        .order_by("-effective_at")
        .first()
    )


def prices_of(version: PriceTableVersion | None) -> dict[tuple[str, str], Decimal]:
    """(model, token class) -> price per token; nothing for no version."""
    if version is None:
        return {}
    rows = TokenPrice.objects.filter(version=version).values_list("model", "token_class", "price")
    return {(model, name): price for model, name, price in rows}


def difference_of(version: PriceTableVersion, *, base: PriceTableVersion | None) -> PriceDiff:
    """What a version changes against another one (None: against nothing)."""
    return difference(prices_of(base), prices_of(version))


@lru_cache(maxsize=_BOOKS_KEPT)  # the prices of an active version never change
def _book(version_id: int) -> PriceBook:
    models: dict[str, dict[str, int]] = {}
    rows = TokenPrice.objects.filter(version_id=version_id)
    for model, name, price in rows.values_list("model", "token_class", "price"):
        models.setdefault(model, {})[name] = scaled(price)
    return PriceBook(models)
