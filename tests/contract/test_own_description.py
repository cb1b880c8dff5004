"""The management paths keep to docs/openapi.json, whatever they are asked.

Bodies and parameters are schemathesis', valid and not, with names that lead somewhere in place of
some of its own, in a database that has one of everything. The gate's own paths are fuzzed where
they are served (test_gate_description.py); Stripe's webhook takes nothing that is not signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
import stripe
from django.db import transaction
from django.test import override_settings
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pytest_django import DjangoDbBlocker
from schemathesis.core import NOT_SET

from billing.payments import client
from billing.payments.simulator import Simulator
from metering.gate.routing import is_hot
from tests.contract import described, doing
from tests.contract.described import PATHS
from tests.factories.stock import Stock, stock

if TYPE_CHECKING:
    from schemathesis import Case

EXPORT: Final = "/customers/{reference}/export"  # test_export_description.py
LABELS: Final = sorted(
    f"{method.upper()} {path}"
    for path, methods in PATHS.items()
    for method in methods
    if not is_hot(method.upper(), path) and not path.endswith(("/stripe/webhook", EXPORT))
)
OF_ONE_CUSTOMER: Final = [
    label for label in LABELS if label.startswith(("GET /api/v1/customers/{", "GET /api/v1/me/"))
]
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "LINK")
REAL: Final = st.sampled_from([True, True, True, False])
THOROUGH: Final = hypothesis.settings().max_examples >= 1_000
# The same ones each time, but where many are drawn: what is found by chance is for `make prove`.
EFFORT: Final = settings(
    max_examples=200 if THOROUGH else 30, derandomize=not THOROUGH, print_blob=True
)
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def stocked(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Stock]:
    """One of everything, for all tests here: what one of them asks for is undone after it."""
    with (
        django_db_blocker.unblock(),
        Simulator() as simulator,
        override_settings(
            STRIPE_API_KEY="",
            STRIPE_API_BASE=simulator.url,
            STRIPE_WEBHOOK_SECRET=simulator.webhook_secret,
        ),
        pytest.MonkeyPatch.context() as patch,
        _undone(),
    ):
        patch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.001)
        client.forget()
        yield stock(now=datetime.now(UTC))
    client.forget()


@pytest.mark.parametrize("label", LABELS)
def test_each_does_its_work_and_tells_of_it_as_described(label: str, stocked: Stock) -> None:
    with _undone():
        for step in doing.steps(label):
            method, path = step.split()
            case = described.operations()[step].Case(
                body=doing.body(step, stocked) if method in ("POST", "PUT", "PATCH") else NOT_SET,
                media_type="application/json",
                path_parameters=stocked.parameters(path),
                query=doing.query(step, stocked),
            )
            response = described.ask(case, key=_key(step, stocked))
            assert response.status_code < 300, (step, response.content)


@pytest.mark.parametrize("label", OF_ONE_CUSTOMER)
def test_of_a_customer_with_nothing_it_is_as_described_too(label: str, stocked: Stock) -> None:
    path = label.split()[1]
    case = described.operations()[label].Case(
        path_parameters={**stocked.parameters(path), "reference": "gone"},
        query=doing.query(label, stocked),
    )
    mine = _key(label, stocked) == stocked.customer_key
    described.ask(case, key=stocked.empty_key if mine else stocked.operator_key)


@pytest.mark.proof
@pytest.mark.parametrize("label", LABELS)
def test_whatever_is_asked_is_answered_as_described(label: str, stocked: Stock) -> None:
    _fuzz(label, stocked, EFFORT)


def _fuzz(label: str, stocked: Stock, effort: settings) -> None:
    from schemathesis import GenerationMode

    operation = described.operations()[label]
    cases = st.one_of(*(operation.as_strategy(mode) for mode in GenerationMode))
    named = stocked.parameters(operation.path)

    @settings(
        effort,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(case=cases, real=REAL, strange=st.sets(st.integers(0, 12), max_size=3))
    def ask(case: Case[Any], real: bool, strange: set[int]) -> None:
        if real:  # names that lead somewhere, and all but some members as they should be
            names = case.path_parameters or {}
            case.path_parameters = {name: named.get(name, value) for name, value in names.items()}
            case.query = doing.mixed(case.query or {}, doing.query(label, stocked), named, strange)
            case.body = doing.mixed(case.body, doing.body(label, stocked), named, strange)
        with _undone():
            described.ask(case, key=_key(label, stocked))

    ask()


@pytest.mark.parametrize("path", sorted({label.split()[1] for label in LABELS}))
def test_other_methods_are_refused(path: str, stocked: Stock) -> None:
    allowed = {method.upper() for method in PATHS[path]}
    label = next(label for label in LABELS if label.split()[1] == path)
    where = path.format(**stocked.parameters(path))
    for method in set(METHODS) - allowed:
        if is_hot(method, path):
            continue
        answer = described.asked(method, where, key=_key(label, stocked))
        assert answer.status_code == 405, (method, answer.content)
        told = answer.json()
        assert (told["code"], answer["Content-Type"]) == (
            "method_not_allowed",
            "application/problem+json",
        )
        taken = {each.strip() for each in answer["Allow"].split(",")}
        assert allowed == taken - {"HEAD", "OPTIONS"}


@contextmanager
def _undone() -> Iterator[None]:
    """A transaction that is rolled back."""
    whole: Any = transaction.atomic()
    whole._from_testcase = True  # as in Django's TestCase: what must be outermost may be within
    with whole:
        yield
        transaction.set_rollback(True)


def _key(label: str, stocked: Stock) -> str:
    mine = f"{label.split()[1]}/".startswith("/api/v1/me/")
    return stocked.customer_key if mine else stocked.operator_key
