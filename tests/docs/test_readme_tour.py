"""The README's tour, word for word, and the example for gateways, against a live service."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from billing.models import Plan, Subscription
from metering.models import Balance, Hold, UsageEvent
from tests.docs.tour import blocks_of, differences, play, section
from tests.flows.conftest import Live

ROOT = Path(__file__).resolve().parents[2]

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None,
    reason="the tour is told in bash and curl, and this machine lacks one of them",
)


@needs_curl
@pytest.mark.slow
def test_the_tour_is_as_the_readme_tells_it(live: Live, tmp_path: Path) -> None:
    told = {
        "base_url": live.base_url,
        "operator_key": live.operator_key,
        "gateway_key": live.gateway_key,
    }
    (tmp_path / ".farebox").mkdir()
    (tmp_path / ".farebox" / "quickstart.json").write_text(json.dumps(told))
    blocks = blocks_of(section((ROOT / "README.md").read_text(), "A tour in five minutes"))
    assert sum(len(block.shown) for block in blocks) >= 10

    answers = play(blocks, folder=tmp_path, meanwhile=live.settle)

    for block, answered in zip(blocks, answers, strict=True):
        assert len(answered) >= len(block.shown)
        for shown, answer in zip(reversed(block.shown), reversed(answered), strict=False):
            assert differences(shown, answer) == [], block.commands
        for answer in answered:
            assert answer.get("status") in (None, 402, 429, "active"), answer
    subscription = Subscription.objects.get(customer__external_id="initech")
    assert subscription.version.plan == Plan.objects.get(key="large")
    balance = Balance.objects.get(customer_id=subscription.customer_id)
    assert (balance.used, balance.held) == (147, 0)
    assert UsageEvent.objects.filter(customer_id=subscription.customer_id).count() == 5
    assert not Hold.objects.filter(state=Hold.State.OPEN).exists()


def test_the_example_for_gateways_works(live: Live) -> None:
    page = (ROOT / "docs" / "gateways.md").read_text()
    client, use = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    key = _a_customer(live)
    use = use.replace('"http://127.0.0.1:8402"', repr(live.base_url))
    use = use.replace('"fb_gw_…"', repr(live.gateway_key)).replace('"fb_key_…"', repr(key))
    printed: list[tuple[Any, ...]] = []
    names: dict[str, Any] = {"ask_the_model": _Answer, "print": lambda *said: printed.append(said)}

    exec(client, names)
    exec(use, names)
    names["farebox"].connection.close()
    exec(use.replace("1200", "120000"), names)
    names["farebox"].connection.close()
    revoked = live.farebox.post("/api-keys", {"customer": "acme", "name": "revoked"})
    live.farebox.post(f"/api-keys/{revoked['id']}/revoke", {}, status=200)
    exec(use.replace(key, revoked["key"]), names)
    names["farebox"].connection.close()
    exec(use.replace(key, "fb_key_typo"), names)

    assert [said[0] for said in printed] == [402, 401, 401]
    assert names["used"] == {"quantity": 300}
    names["farebox"].connection.close()
    with pytest.raises(RuntimeError, match="401 key_malformed"):  # the gateway's own
        exec(use.replace(live.gateway_key, "fb_gw_typo"), names)
    names["farebox"].connection.close()
    exec(use.replace("1200", "120000"), names)
    assert [said[0] for said in printed[3:]] == [402]
    with pytest.raises(ZeroDivisionError), names["farebox"].held(key, "chat.tokens", 10):
        raise ZeroDivisionError
    names["farebox"].connection.close()
    balance = Balance.objects.get(meter__key="chat.tokens")
    assert (balance.used, balance.held) == (300, 0)


class _Answer:
    total_tokens = 300


def _a_customer(live: Live) -> str:
    live.farebox.post("/customers", {"external_id": "acme", "name": "Acme"})
    live.farebox.post("/subscriptions", {"customer": "acme", "plan": "free"})
    key: str = live.farebox.post("/api-keys", {"customer": "acme", "name": "first"})["key"]
    return key
