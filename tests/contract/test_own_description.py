"""Every path is asked for what its own description allows, and for what it forbids: never a 500.

Bodies and parameters are schemathesis', of docs/openapi.json. The gate's own paths are fuzzed where
they are served (test_gate_description.py); Stripe's webhook takes nothing that is not signed.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import hypothesis
import pytest
from django.test import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from accounts.domain.scopes import ADMIN
from metering.gate.routing import is_hot
from tests.factories.accounts import a_customer, an_api_key, an_operator_key
from tests.factories.billing import a_plan, a_subscription, calls
from tests.factories.metering import make_meter

if TYPE_CHECKING:
    from schemathesis import Case

ROOT: Final = Path(__file__).resolve().parents[2]
DESCRIPTION: Final = ROOT / "docs" / "openapi.json"
LABELS: Final = sorted(
    f"{method.upper()} {path}"
    for path, methods in json.loads(DESCRIPTION.read_text())["paths"].items()
    for method in methods
    if not is_hot(method.upper(), path) and not path.endswith("/stripe/webhook")
)
EXAMPLES: Final = 200 if hypothesis.settings().max_examples >= 1_000 else 8
pytestmark = [pytest.mark.timeout(300), pytest.mark.proof]


@pytest.fixture
def known(db: None) -> dict[str, str]:
    """Names that lead somewhere, by what stands for them in paths; and the keys to ask with."""
    customer = a_customer(external_id="acme")
    meter = make_meter()
    subscription = a_subscription(a_plan(calls(meter)), customer=customer)
    operator = an_operator_key(ADMIN)[1].text
    return {
        "reference": "acme",
        "customer": customer.public_id,
        "meter": meter.key,
        "plan": subscription.version.plan.key,
        "key": subscription.version.plan.key,
        "subscription": subscription.public_id,
        "operator": operator,
        "api_key": an_api_key(customer)[1].text,
    }


@functools.cache
def operations() -> dict[str, Any]:
    """Each operation as schemathesis reads it, which is loaded by who asks: it takes seconds."""
    import schemathesis
    from schemathesis.core.result import Ok

    found = schemathesis.openapi.from_path(DESCRIPTION).get_all_operations()
    return {each.ok().label: each.ok() for each in found if isinstance(each, Ok)}


@pytest.mark.parametrize("label", LABELS)
def test_nothing_that_is_asked_is_a_fault_of_ours(label: str, known: dict[str, str]) -> None:
    from schemathesis import GenerationMode

    operation = operations()[label]
    cases = st.one_of(*(operation.as_strategy(mode) for mode in GenerationMode))
    key = known["api_key" if "/me/" in operation.path else "operator"]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases, real=st.booleans())
    def ask(case: Case[Any], real: bool) -> None:
        if real:
            names = case.path_parameters or {}
            case.path_parameters = {name: known.get(name, value) for name, value in names.items()}
        status = _status(case, key=key)
        assert status < 500, case.as_curl_command()

    ask()


def _status(case: Case[Any], *, key: str) -> int:
    sent: dict[str, Any] = case.as_transport_kwargs(base_url="http://testserver")
    body = sent.get("data")
    if "json" in sent:
        body = json.dumps(sent["json"])
    client = Client(raise_request_exception=False)
    answer = client.generic(
        case.method,
        sent["url"],
        b"" if body is None else body,
        content_type=case.media_type or "application/json",
        query_params=sent.get("params") or None,
        headers={"authorization": f"Bearer {key}"},
    )
    return int(answer.status_code)
