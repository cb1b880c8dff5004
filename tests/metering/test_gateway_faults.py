"""Gateways that ask wrongly, where their operator looks: the admin, a command, the table's end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.domain.problem_types import PROBLEM_TYPES
from accounts.models import Gateway
from metering.domain.gateway_faults import ADVICE, advice_on
from metering.models import GatewayFault
from metering.operations.forgetting import forget_gateway_faults
from tests.conftest import ROOT
from tests.metering.test_admin import staff

__all__ = ["staff"]
pytestmark = [pytest.mark.django_db, pytest.mark.traced]
LIST = "/admin/metering/gatewayfault/"


def seen(code: str = "route_unknown", **fields: Any) -> GatewayFault:
    now = datetime.now(UTC)
    given = {"gateway": "edge", "count": 3, "first_at": now, "last_at": now, "detail": "No /wp."}
    return GatewayFault.objects.create(code=code, **given | fields)


def test_the_list_says_who_what_and_what_to_do(staff: Client) -> None:
    gateway = Gateway.objects.create(name="edge", created_at=datetime.now(UTC))
    seen(count=1_234)
    row = seen("key_unknown", gateway="", detail="No gateway has this key.")
    seen("meter_unknown", gateway="gone")
    page = staff.get(LIST).content.decode()
    for words in (
        "<h1>Gateways that ask wrongly</h1>",
        "1234",
        "route_unknown (strangers, too)",
        "No /wp.",
        "it is a scanner",
        f'href="/admin/accounts/gateway/{gateway.pk}/change/"',
        "unknown",
        "gone",
    ):
        assert words in page, words
    asked = staff.get(f"{LIST}?q=key_un").content.decode()
    assert ("No gateway has this key." in asked, "No /wp." in asked) == (True, False)
    for name, there in (("-", "No gateway has this key."), ("edge", "it is a scanner")):
        page = staff.get(f"{LIST}?gateway={name}").content.decode()
        assert there in page
        assert "meter_unknown</a></th>" not in page
    page = staff.get(f"{LIST}{row.pk}/change/").content.decode()
    assert 'href="/docs/problems/key_unknown"' in page
    assert "never issued by this installation" in page
    assert "docs/gateways.md" in page
    for path in ("add/", f"{row.pk}/delete/"):
        assert staff.post(f"{LIST}{path}").status_code == 403


def test_a_gateway_leads_to_what_it_gets_wrong(staff: Client) -> None:
    good = Gateway.objects.create(name="good", created_at=datetime.now(UTC))
    edge = Gateway.objects.create(name="edge & co", created_at=datetime.now(UTC))
    seen("key_expired", gateway="edge & co")
    link = f'href="{LIST}?gateway=edge+%26+co"'
    assert link in staff.get("/admin/accounts/gateway/").content.decode()
    assert link in staff.get(f"/admin/accounts/gateway/{edge.pk}/change/").content.decode()
    page = staff.get(f"/admin/accounts/gateway/{good.pk}/change/").content.decode()
    assert "nothing seen" in page
    assert LIST not in page.partition("<main")[2]
    assert staff.get("/admin/accounts/gateway/add/").status_code == 200


def said(**options: Any) -> str:
    out = StringIO()
    call_command("gateway_faults", stdout=out, **options)
    return out.getvalue()


def test_the_command_says_it_and_ends_with_1_where_a_gateway_is_wrong() -> None:
    assert said() == "No gateway asks wrongly.\n"
    seen(count=1)
    seen("key_missing", gateway="")
    told = said()
    assert "edge: route_unknown, once since " in told
    assert "unknown gateway: key_missing, 3 times since" in told
    assert "No /wp." in told
    assert told.endswith("Nothing else is wrong.\n")
    then = datetime.now(UTC) - timedelta(hours=30)
    seen("meter_unknown", first_at=then, last_at=then)
    assert "meter_unknown" not in said()
    with pytest.raises(CommandError, match="1 to mend"):
        said(hours=48)


def test_what_is_no_longer_seen_is_forgotten() -> None:
    now = datetime.now(UTC)
    seen(last_at=now - timedelta(days=31))
    left = seen("key_expired", first_at=now - timedelta(days=90), last_at=now - timedelta(days=29))
    assert forget_gateway_faults(now=now) == 1
    assert GatewayFault.objects.get() == left
    assert str(left) == "edge: key_expired"
    assert str(seen(gateway="")) == "unknown: route_unknown"


def test_every_advice_is_on_a_problem_and_in_the_documents() -> None:
    page = (ROOT / "docs" / "gateways.md").read_text(encoding="utf-8")
    table = page.partition("| `fault` |")[2].partition("\n\n")[0]
    for code in ADVICE:
        assert PROBLEM_TYPES[code].status < 500
        assert f"`{code}`" in table, code
    assert advice_on("not_there").means == "It asks in a way that is not taken."
