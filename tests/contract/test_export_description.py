"""A customer's export keeps to docs/openapi.json: it is read in an outermost transaction."""

from __future__ import annotations

import pytest

from tests.contract import described
from tests.factories.accounts import a_customer, an_operator_key

EXPORT = "GET /api/v1/customers/{reference}/export"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("reference", "status"), [("acme", 200), ("nobody", 404)])
def test_an_export_is_as_described(reference: str, status: int) -> None:
    a_customer(external_id="acme")
    case = described.operations()[EXPORT].Case(path_parameters={"reference": reference})
    assert described.ask(case, key=an_operator_key()[1].text).status_code == status
