"""Decisions: why a call was denied, and what would have admitted it."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.authentication import CallerKind
from accounts.api.describing import describe
from accounts.api.fields import CustomerField, InstantField, TextField, instant
from accounts.api.paging import CursorPage
from accounts.api.views import ManagementView
from accounts.domain import ids
from accounts.models import ApiKey, Customer, Gateway
from metering.api.fields import SpanQuery
from metering.domain.told import balance_bodies, recall
from metering.models import Denial, Hold, UsageEvent
from metering.queries.decisions import admitted_by_id, denial_by_id, denials

PREFIX = Denial.PREFIX


class SmallestChangeShape(serializers.Serializer[Any]):
    """The least that would have admitted the call."""

    more = serializers.IntegerField(help_text="So much more of the meter would have done.")
    remedy = serializers.DictField(allow_null=True, help_text="The first remedy that admits it.")


class LastDenialShape(serializers.Serializer[Any]):
    """The last of several denials that are one decision."""

    at = InstantField()
    problem = serializers.DictField(
        allow_null=True, help_text="The answer that it was given; null where it was not kept."
    )


class DecisionShape(serializers.Serializer[Any]):
    """A decision as it was made.

    Denials of one minute with the same customer, meter, code and key are one decision, with the id
    that each of them was told. `count` says how many they are; what is said without `last` is said
    of the first of them.
    """

    id = serializers.CharField()
    allowed = serializers.BooleanField()
    customer = CustomerField()
    at = InstantField()
    gateway = serializers.CharField(allow_null=True)
    api_key = serializers.CharField(allow_null=True)
    last_at = InstantField(required=False)
    count = serializers.IntegerField(required=False, help_text="How many denials it stands for.")
    last = LastDenialShape(
        required=False, allow_null=True, help_text="The last of them, where there were several."
    )
    code = serializers.CharField(required=False)
    rule = serializers.CharField(required=False, help_text="What stood in the way.")
    problem = serializers.DictField(required=False, help_text="The answer that was given.")
    smallest_change = SmallestChangeShape(required=False, allow_null=True)
    answer = serializers.DictField(required=False, help_text="What an admitted call was told.")
    hold = serializers.CharField(required=False, allow_null=True)
    event = serializers.CharField(required=False, allow_null=True)


class DenialQuery(SpanQuery):
    """Whose denials to list."""

    customer = CustomerField()
    code = TextField(required=False)


class Decisions(ManagementView):
    """Denials of a customer."""

    scopes = {"GET": "events:read"}

    @describe("List denials", answer=DecisionShape, query=DenialQuery, page=True)
    def get(self, request: Request) -> Response:
        """List a customer's denials of the last 31 days, the latest first."""
        asked = self.query(DenialQuery)
        found = denials(asked["customer"].id, start_at=asked.get("from"), end_at=asked.get("to"))
        if "code" in asked:
            found = found.filter(code=asked["code"])
        page = CursorPage(found, request, ("-last_at", "-id"))
        return Response(page.body([denial_body(each) for each in page.rows]))


class OneDecision(ManagementView):
    """One decision; a customer's key sees its own."""

    callers: ClassVar[frozenset[CallerKind]] = frozenset({"operator", "customer"})
    scopes = {"GET": "events:read"}

    @describe("See a decision", answer=DecisionShape)
    def get(self, request: Request, decision: str) -> Response:  # noqa: ARG002
        """See what a denial saw, the rule that fired, and what would have admitted the call."""
        self.query()
        customer_id, key = ids.decode_owned(PREFIX, decision)
        if self.caller.customer_id not in {None, customer_id}:
            raise Http404("There is no such decision.")
        denial = denial_by_id(customer_id, decision_id=key)
        if denial is not None:
            return Response(denial_body(denial))
        admitted = admitted_by_id(customer_id, decision_id=key)
        if admitted is None or not admitted.answer:
            raise Http404("There is no such decision, or it was only a look.")
        return Response(admitted_body(admitted))


def denial_body(denial: Denial) -> dict[str, Any]:
    """A denial: what it saw, which rule fired, the smallest change that would have admitted it.

    Of several all is the first one's, but for `last`.
    """
    problem = denial.problem
    return {
        "id": _owned(PREFIX, denial),
        "allowed": False,
        "customer": ids.encode(Customer.PREFIX, denial.customer_id),
        "at": instant(denial.first_at),
        "last_at": instant(denial.last_at),
        "count": denial.count,
        "last": {"at": instant(denial.last_at), "problem": denial.last_problem}
        if denial.count > 1
        else None,
        "gateway": _public(Gateway.PREFIX, denial.gateway_id),
        "api_key": _public(ApiKey.PREFIX, denial.api_key_id),
        "code": denial.code,
        "rule": problem.get("detail", ""),
        "problem": problem,
        "smallest_change": _smallest_change(problem),
    }


def admitted_body(admitted: Hold | UsageEvent) -> dict[str, Any]:
    """An admitted call: what it was told, and what it left."""
    held = isinstance(admitted, Hold)
    told = recall(admitted.answer or "")
    return {
        "id": _owned(PREFIX, admitted),
        "allowed": True,
        "customer": ids.encode(Customer.PREFIX, admitted.customer_id),
        "at": instant(admitted.opened_at if isinstance(admitted, Hold) else admitted.received_at),
        "gateway": _public(Gateway.PREFIX, admitted.gateway_id),
        "api_key": _public(ApiKey.PREFIX, admitted.api_key_id),
        "answer": {"mode": told.mode, "plan": told.plan, "balances": balance_bodies(told)},
        "hold": _owned(Hold.PREFIX, admitted) if held else None,
        "event": None if held else _owned(UsageEvent.PREFIX, admitted),
    }


def _smallest_change(problem: dict[str, Any]) -> dict[str, Any] | None:
    remedies = problem.get("remedies", [])
    remedy = next((each for each in remedies if each.get("would_admit")), None)
    more = problem.get("requested", 0) - problem.get("max_admissible", 0)
    if not problem.get("balances"):
        more = 0  # nothing was measured: it is not quantity that was missing
    return {"more": more, "remedy": remedy} if more > 0 or remedy else None


def _owned(prefix: str, row: Denial | Hold | UsageEvent) -> str:
    return ids.encode_owned(prefix, customer_id=row.customer_id, key=row.id)


def _public(prefix: str, number: int | None) -> str | None:
    return None if number is None else ids.encode(prefix, number)
