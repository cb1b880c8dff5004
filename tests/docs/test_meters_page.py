"""The examples of docs/meters.md, in their order, against the API, the gate and the command."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, load_command_class
from django.test import Client

from accounts.models import Customer
from metering.models import Meter
from tests.docs.tour import differences
from tests.factories.accounts import an_operator_key, bearer
from tests.metering.gate.client import GateProcess
from tests.metering.gate.conftest import entitle, gate, make_customer

__all__ = ["gate"]
STANDS_FOR = {"{meter}": "chat.tokens", "{key}": "llm", "{number}": "1"}
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "meters.md").read_text(encoding="utf-8")


@pytest.mark.django_db(transaction=True)
def test_the_examples_are_answered_as_the_page_says(gate: GateProcess) -> None:
    operator = Client(headers=bearer(an_operator_key()[1]))
    customer = make_customer()
    Customer.objects.filter(id=customer.id).update(external_id="acme")
    answered: Any = None
    ran = 0
    for kind, text in re.findall(r"^```(http|json)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        if kind == "json":
            assert differences(json.loads(text), answered) == []
            continue
        call, _, body = text.partition("\n")
        method, path = call.split()
        for name, value in STANDS_FOR.items():
            path = path.replace(name, value)
        address = f"/api/v1{path}"
        if path == "/events":
            for meter in Meter.objects.all():
                entitle(customer, meter, included=10**9)
            got = gate.send(method, address, json.loads(body))
            status, answered = got.status, got.body
        else:
            answer = operator.generic(method, address, body, content_type="application/json")
            status, answered = answer.status_code, answer.json()
        assert status in (200, 201), answered
        ran += 1
    assert ran >= 9


def test_the_command_takes_the_options_that_the_page_names() -> None:
    (script,) = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    parser = load_command_class("metering", "import_prices").create_parser("manage.py", "")
    lines = script.splitlines()
    assert len(lines) >= 4
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["python", "manage.py", "import_prices"]
        parser.parse_args(words[3:])
    with pytest.raises((CommandError, SystemExit)):
        parser.parse_args(["--no-such-option"])
