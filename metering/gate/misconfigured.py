"""A gateway that asks /authorize wrongly: its operator is told, and the end client is not blamed.

What such a gateway is answered, it shows to somebody who did nothing wrong. So it is 503 for its
client, whatever the gateway; body, header, log, metric and the admin (metering/gate/fault_notes.py)
say what is wrong for its operator.
"""

from __future__ import annotations

import logging
import time

from metering.gate import answers, metrics
from metering.gate.answers import Answer, Header
from metering.gate.wire import Problem

log = logging.getLogger(__name__)
SAID_EVERY_S = 60.0  # the same fault of a gateway comes with each of its requests
# What an end client can get wrong: its key, and a path that can be read in two ways.
_CLIENTS = frozenset({"key", "path"})
_OWN_KEY = "X-Farebox-Gateway"
_said_at: dict[tuple[str, str], float] = {}  # (gateway, code): as many as there are gateways


class Misconfigured(Answer, frozen=True, gc=False):
    """The answer to a gateway that asks wrongly, with what is noted of it.

    `gateway`: its name, empty where none is known; `code`, `detail`, `param`: of the fault.
    """

    gateway: str = ""
    code: str = ""
    detail: str = ""
    param: str | None = None


def is_gateways(refused: Problem) -> bool:
    """Whether a forwarded request is refused for what its gateway does, not its client."""
    return 400 <= refused.status < 500 and refused.param not in _CLIENTS


def answer(
    refused: Problem, *, gateway: str, base_url: str, instance: str, header: Header
) -> Misconfigured:
    """What the gateway is told, which is counted, and logged now and then; "": none is known."""
    detail, param = refused.detail, refused.param
    if refused.status in (401, 403):
        param = _OWN_KEY
    if refused.code == "key_missing":
        detail = f"Send the gateway's key: `{_OWN_KEY}: fb_gw_…`."
    metrics.MISCONFIGURED.labels(refused.code).inc()
    now = time.monotonic()
    if now - _said_at.get((gateway, refused.code), -SAID_EVERY_S) >= SAID_EVERY_S:
        _said_at[gateway, refused.code] = now
        whose = f"the gateway {gateway!r}" if gateway else "a gateway"
        log.warning("%s is not set up right: %s: %s", whose, refused.code, detail)
    told = Problem(
        "gateway_misconfigured",
        f"The gateway is not set up right; the request may be: {detail}",
        param=param,
        **{**refused.more, "fault": refused.code},
    )
    made = answers.about(answers.problem(told, base_url=base_url), instance)
    headers = (*made.headers, (b"x-farebox-fault", refused.code.encode()), header)
    return Misconfigured(
        made.status,
        made.body,
        headers,
        gateway=gateway,
        code=refused.code,
        detail=detail,
        param=param,
    )
