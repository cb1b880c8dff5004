"""Hypothesis strategies of prices and periods, for the tests of this folder."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from billing.domain.periods import Period
from billing.domain.prices import (
    Flat,
    Graduated,
    Package,
    Percentage,
    PerUnit,
    Price,
    Tier,
    Volume,
)

amounts = st.decimals(min_value=0, max_value=10**6, places=12) | st.sampled_from(
    [Decimal(0), Decimal("0.000000000001"), Decimal("0.005"), Decimal(1)]
)
quantities = st.integers(min_value=0, max_value=2**63 - 1) | st.integers(0, 5_000)


@st.composite
def tier_tables(draw: st.DrawFn) -> tuple[Tier, ...]:
    edges = draw(st.lists(st.integers(1, 10_000), unique=True, max_size=5).map(sorted))
    return tuple(
        Tier(up_to, draw(amounts), draw(st.just(Decimal(0)) | amounts)) for up_to in [*edges, None]
    )


@st.composite
def percentages(draw: st.DrawFn) -> Percentage:
    least = draw(st.none() | coarse)
    most = draw(st.none() | coarse)
    if least is not None and most is not None:
        least, most = min(least, most), max(least, most)
    return Percentage(
        percent=draw(st.decimals(min_value=0, max_value=200, places=6) | st.just(Decimal(0))),
        unit_value=draw(st.sampled_from([Decimal("0.0001"), Decimal("0.01"), Decimal(1)])),
        fixed=draw(coarse),
        minimum=least,
        maximum=most,
    )


# Few enough that bounds meet each other, the fixed part and single units.
coarse = st.sampled_from([Decimal(n).scaleb(-2) for n in (0, 1, 30, 31, 100, 500, 100_000)])
percentage = percentages()
per_unit = st.builds(PerUnit, amounts)
graduated = st.builds(Graduated, tier_tables())
volume = st.builds(Volume, tier_tables())
package = st.builds(Package, st.integers(1, 10**6), amounts)
flat = st.builds(Flat, amounts)
rising_prices: st.SearchStrategy[Price] = per_unit | graduated | package | flat | percentage
any_price: st.SearchStrategy[Price] = rising_prices | volume


@st.composite
def periods(draw: st.DrawFn) -> Period:
    start = draw(st.datetimes(datetime(2000, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC)))
    return Period(start, start + timedelta(seconds=draw(st.integers(1, 400 * 86_400))))


@st.composite
def periods_with_instants(draw: st.DrawFn, *, count: int) -> tuple[Period, list[datetime]]:
    """A period and ``count`` instants inside it, in order."""
    period = draw(periods())
    offsets = draw(
        st.lists(st.integers(0, period.seconds), min_size=count, max_size=count).map(sorted)
    )
    return period, [period.start_at + timedelta(seconds=offset) for offset in offsets]
