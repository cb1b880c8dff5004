"""What APIPark's gateway Apinto sends by its http_output: one call, as its formatter writes it."""

from __future__ import annotations

from typing import Final

from metering.domain.shapes.reading import (
    Item,
    Options,
    Told,
    first_text,
    first_whole,
    missing,
    moment,
    plain,
    scalars,
    text,
)
from metering.domain.shapes.tokens import disjoint

AI_TYPE: Final = "llm.completion"
HTTP_TYPE: Final = "http.request"
CUSTOMER: Final = ("farebox_customer", "customer", "application")
TIME: Final = ("msec", "time_iso8601", "time", "timestamp")
KEPT: Final = {
    "service": "service",
    "provider": "service_provider",
    "api": "api",
    "request_method": "method",
    "request_host": "host",
    "strategy": "strategy",
    "ai_provider": "provider",
    "ai_model": "model",
    "node": "node",
    "cluster": "cluster",
}


def translate(item: Item, options: Options) -> Told | None:
    """One call of a subscribed application; None for a call that nobody's application made.

    Bodies, headers and the authorisation are not kept.
    """
    id_ = first_text(item, "request_id")
    if not id_:
        raise missing(
            "request_id", "add $request_id to the formatter: it makes the call count once"
        )
    names = CUSTOMER if options.customer is None else (options.customer,)
    if not any(name in item for name in names):
        raise missing(names[-1], f"add ${names[-1]} to the formatter: it says whose call it is")
    subject = first_text(item, *names)
    if not subject:
        return None
    data = {name: value for name, value in scalars(item, KEPT) if value != "-"}
    status = first_whole(item, "status")
    if status is not None:
        data |= {"status": status, "status_class": f"{status // 100}xx"}
    taken = plain(item.get("request_time"))
    if isinstance(taken, int) and taken >= 0:
        data["duration_ms"] = taken
    model = text(item.get("ai_model"))
    if model:
        data |= disjoint(
            prompt=first_whole(item, "ai_model_input_token"),
            completion=first_whole(item, "ai_model_output_token"),
        )
    when = next((name for name in TIME if text(item.get(name)) or item.get(name)), TIME[0])
    return Told(
        id=id_,
        subject=subject,
        type=options.type or (AI_TYPE if model else HTTP_TYPE),
        occurred_at=moment(item.get(when), param=when),
        data=data,
    )
