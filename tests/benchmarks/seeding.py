"""Customers to measure with: each may use what it likes, and is counted. Prints keys as JSON."""

from __future__ import annotations

import json
import secrets
import sys
from datetime import UTC, datetime
from typing import Any

import django

django.setup()

from django.db import transaction  # noqa: E402

from accounts.domain import keys  # noqa: E402
from accounts.models import ApiKey, Customer, CustomerVersion, Gateway, GatewayKey  # noqa: E402
from accounts.operations.versions import bump_catalogue  # noqa: E402
from metering.domain.windows import anchored_window  # noqa: E402
from metering.models import Balance, Entitlement, Meter, Standing  # noqa: E402
from tests.benchmarks.bodies import EVENT_TYPE, METER, TOKENS, TOKENS_TYPE  # noqa: E402

PLENTY = 10**12


def seed(count: int, plain: int, llm: int = 0, *, now: datetime) -> dict[str, Any]:
    """Make `count` customers for the gate and `plain` for the view it is compared with.

    And `llm` whose tokens are summed, by model.
    """
    with transaction.atomic():
        gateway = Gateway.objects.create(name="bench", created_at=now)
        made = keys.new_key(keys.KeyKind.GATEWAY, entropy=secrets.token_bytes(32))
        GatewayKey.objects.create(
            gateway=gateway, name="bench", prefix=made.prefix, digest=made.digest, created_at=now
        )
        meter = Meter.objects.create(
            key=METER, event_type=EVENT_TYPE, aggregation="count", created_at=now
        )
        tokens = Meter.objects.create(
            key=TOKENS,
            event_type=TOKENS_TYPE,
            aggregation="sum",
            value_property="tokens",
            dimensions=["model"],
            created_at=now,
        )
        bump_catalogue()
        return {
            "gateway_key": made.text,
            "keys": _customers(count, meter, now=now),
            "drf_keys": _customers(plain, meter, now=now),
            "llm_keys": _customers(llm, tokens, now=now),
        }


def _customers(count: int, meter: Meter, *, now: datetime) -> list[str]:
    begin = datetime(now.year, 1, 1, tzinfo=UTC)
    start_at, end_at = anchored_window(begin, unit="month", at=now)
    customers = Customer.objects.bulk_create(
        [
            Customer(id=secrets.randbits(62), name=f"Customer {number}", created_at=now)
            for number in range(count)
        ]
    )
    made = [keys.new_key(keys.KeyKind.CUSTOMER, entropy=secrets.token_bytes(32)) for _ in customers]
    CustomerVersion.objects.bulk_create([CustomerVersion(customer=each) for each in customers])
    Standing.objects.bulk_create(
        [
            Standing(customer=each, plan_key="bench", plan_name="Bench", updated_at=now)
            for each in customers
        ]
    )
    ApiKey.objects.bulk_create(
        [
            ApiKey(
                customer=customer,
                name="bench",
                prefix=key.prefix,
                digest=key.digest,
                created_at=now,
            )
            for customer, key in zip(customers, made, strict=True)
        ]
    )
    Entitlement.objects.bulk_create(
        [
            Entitlement(
                customer=each,
                kind="metered",
                meter=meter,
                window="month",
                anchor_at=begin,
                included=PLENTY,
                starts_at=begin,
                source="sub_bench",
            )
            for each in customers
        ]
    )
    Balance.objects.bulk_create(
        [
            Balance(customer=each, meter=meter, window="month", start_at=start_at, end_at=end_at)
            for each in customers
        ]
    )
    return [each.text for each in made]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(seed(*map(int, sys.argv[1:4]), now=datetime.now(UTC))))
