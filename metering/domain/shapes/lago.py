"""Lago's usage events, as its clients and the `lago` plugins of APISIX and LiteLLM send them."""

from __future__ import annotations

from metering.domain.shapes.reading import (
    Item,
    Options,
    ShapeInvalid,
    Told,
    decimal_text,
    first_text,
    missing,
    moment,
    part,
    plain,
    text,
)

AMOUNT = "precise_total_amount_cents"


def translate(item: Item, options: Options) -> Told:
    """One event: its code is the type, its customer or else its subscription the subject.

    Properties that are whole numbers written as text become numbers: APISIX sends texts only.
    """
    id_ = text(item.get("transaction_id"))
    if not id_:
        raise missing("transaction_id", "transaction_id is what makes the event count once")
    subject = first_text(item, "external_customer_id", "external_subscription_id")
    if not subject:
        raise missing(
            "external_customer_id", "name external_customer_id or external_subscription_id"
        )
    type_ = options.type or text(item.get("code"))
    if not type_:
        raise missing("code", "code says which meters count the event")
    properties = item.get("properties")
    if properties is not None and not isinstance(properties, dict):
        raise ShapeInvalid("parameter_invalid", "properties", "properties must be an object")
    data = {name: plain(value) for name, value in part(item, "properties").items()}
    amount = decimal_text(item.get(AMOUNT))
    if amount is not None:
        data.setdefault(AMOUNT, amount)
    return Told(
        id=id_,
        subject=subject,
        type=type_,
        occurred_at=moment(item.get("timestamp"), param="timestamp"),
        data=data,
    )
