"""The simulator's calls exist at Stripe with the parameters it takes; the validator validates."""

from __future__ import annotations

import pytest

from billing.payments.simulator.api import ROUTES
from billing.payments.simulator.calls import Route
from billing.payments.simulator.shapes import ListOf, Nested, Required, Shape
from tests.contract import stripe_schema
from tests.contract.stripe_schema import SchemaMismatch, check_object, check_request, check_response

pytestmark = pytest.mark.skipif(
    not stripe_schema.schema_available(), reason=stripe_schema.SKIP_REASON
)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: f"{r.method} {r.pattern}")
def test_every_call_of_the_simulator_is_one_of_stripes(route: Route) -> None:
    path = route.pattern.replace("*", "x_1")
    known = stripe_schema.parameters(route.method, path)
    _assert_known(route.shape, known, route.pattern)


def _assert_known(shape: Shape, known: dict[str, object], where: str) -> None:
    for name, kind in shape.items():
        assert name in known, f"{where}: {name}"
        inner = kind.kind if isinstance(kind, Required) else kind
        inner = inner.kind if isinstance(inner, ListOf) else inner
        if isinstance(inner, Nested):
            deeper = stripe_schema.fields_of(known[name])
            _assert_known(inner.shape, deeper, f"{where}[{name}]")


def test_right_requests_pass_typed_or_as_form_strings() -> None:
    for lines in (
        [{"amount": 5, "period": {"start": 1, "end": 2}}],
        {"0": {"amount": "5", "period": {"start": "1", "end": "2"}, "metadata": {"0": "x"}}},
    ):
        check_request("POST", "/v1/invoices/in_1/add_lines", {"lines": lines})
    check_request("GET", "/v1/invoices", {"created": {"gte": "5"}, "limit": "3"})
    check_request("POST", "/v1/invoices/in_1/finalize", {"auto_advance": "true"})
    check_request("POST", "/v1/products", {"name": "calls", "tax_details": "newer than it"})


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/invoiceitems", {"customer": "cus_1", "price": "price_1"}),
        ("/v1/invoices/in_1/add_lines", {"lines": [{"amount": "1.5"}]}),
        ("/v1/invoices/in_1/add_lines", {}),
        ("/v1/invoices", {"customer": "cus_1", "collection_method": "by_mail"}),
        ("/v1/setup_intents", {"payment_method_types": ["card"]}),
        ("/v1/nonsense", {}),
    ],
)
def test_wrong_requests_are_caught(path: str, params: dict[str, object]) -> None:
    with pytest.raises(SchemaMismatch):
        check_request("POST", path, params)


def test_wrong_answers_are_caught() -> None:
    right = {"id": "cus_1", "object": "customer", "created": 1, "livemode": False}
    check_response("GET", "/v1/customers/cus_1", 200, right)
    check_object(right)
    for wrong in (
        {**right, "created": "yesterday"},
        {**right, "invented": 1},
        {"id": "cus_1", "object": "customer"},
    ):
        with pytest.raises(SchemaMismatch):
            check_response("GET", "/v1/customers/cus_1", 200, wrong)
        with pytest.raises(SchemaMismatch):
            check_object(wrong)
    error = {"error": {"type": "invalid_request_error", "message": "no"}}
    check_response("GET", "/v1/customers/cus_1", 404, error)
    with pytest.raises(SchemaMismatch):
        check_response("GET", "/v1/customers/cus_1", 404, {"error": {"type": "unheard_of"}})
    with pytest.raises(SchemaMismatch):
        check_object({"object": "nonsense"})
