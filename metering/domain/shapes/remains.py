"""What is kept of an item that could not be translated: what its translator reads, and no more.

Prompts, answers, headers and queries are not kept, nor the text of any key. What remains translates
to what the item would have: the same event, with the same id, or the same refusal.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from metering.domain.shapes import access_log, apipark, lago, litellm
from metering.domain.shapes.reading import Item, Options, ShapeInvalid, Told, first_text, part

Translate = Callable[[Item, Options], Told | None]
# By the name under which a shape is reported: /ingest/<name>, or Lago's own paths.
TRANSLATORS: Final[dict[str, Translate]] = {
    "litellm": litellm.translate,
    "apipark": apipark.translate,
    "access-log": access_log.translate,
    "lago": lago.translate,
}
_NAMED: Final = {
    "apipark": apipark.CUSTOMER[0],
    "access-log": access_log.CUSTOMER[0],
    "lago": "external_customer_id",
}
_KEY: Final = re.compile(r"(fb_(?:gw|op|key)_)[0-9A-Za-z]+")
_SOMETHING: Final = ["…"]  # in the place of an object or list: it is no text, number or time either
Tree = Mapping[str, Any]  # name -> None for a plain value, or the tree of an object's members


@dataclass(frozen=True, slots=True)
class Remains:
    """What is kept of an item, and how it names its customer, "" where it does not."""

    item: dict[str, Any]
    subject: str


def remains(shape: str, item: Item, options: Options) -> Remains:
    """What is kept of an item of one of TRANSLATORS' shapes. `subject` may be a key's text."""
    left, subject = _REMAINS[shape](item, options)
    return Remains(cast("dict[str, Any]", without_keys(left)), subject)


def of_customer(shape: str, item: Item, subject: str) -> Item:
    """The item as if it had named its customer so; it is to be translated without `customer`."""
    if shape != "litellm":
        return {**item, _NAMED[shape]: subject}
    metadata = part(item, "metadata")
    own = {**part(metadata, "user_api_key_auth_metadata"), "farebox_customer": subject}
    return {**item, "metadata": {**metadata, "user_api_key_auth_metadata": own}}


def without_keys(value: object) -> object:
    """The value with every key in it cut to its kind."""
    match value:
        case str():
            return _KEY.sub(r"\1…", value)
        case Mapping():
            return {_KEY.sub(r"\1…", name): without_keys(each) for name, each in value.items()}
        case list():
            return [without_keys(each) for each in value]
        case _:
            return value


def _names(names: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(names)


def _pick(item: Item, tree: Tree) -> dict[str, Any]:
    """The members that the tree names. What is no object where one is read is as if it were not
    there: of a text in its place nobody knows what is in it.
    """
    found: dict[str, Any] = {}
    for name, inner in tree.items():
        if name not in item:
            continue
        value = item[name]
        if inner is None:
            found[name] = _plain(value)
        elif isinstance(value, Mapping):
            found[name] = _pick(value, inner)
    return found


def _plain(value: object) -> object:
    return _SOMETHING if isinstance(value, Mapping | list) and value else value


_LITELLM: Final[Tree] = {
    **_names(
        (
            "litellm_call_id", "call_id", "status", "stream", "response_cost", "startTime",
            "endTime", "end_user", "prompt_tokens", "completion_tokens", *litellm.KEPT,
        )
    ),
    "metadata": {
        **_names(("litellm_call_id", "user_api_key_hash")),
        **_names(name for names in litellm.WHO.values() for name in names),
        "user_api_key_auth_metadata": _names(("farebox_customer", "farebox_hold")),
        "usage_object": {
            **_names(
                (
                    "prompt_tokens", "completion_tokens", "cache_read_input_tokens",
                    "cache_creation_input_tokens",
                )
            ),
            "prompt_tokens_details": {
                **_names(("cached_tokens", "cache_creation_tokens", "audio_tokens")),
                "cached_tokens_details": _names(("audio_tokens",)),
            },
            "completion_tokens_details": _names(("reasoning_tokens", "audio_tokens")),
        },
    },
}  # fmt: skip


def _of_litellm(item: Item, options: Options) -> tuple[dict[str, Any], str]:
    left = _pick(item, _LITELLM)
    if litellm.has_error(item):
        left["error_information"] = {"error_message": "…"}  # which may quote the prompt
    subject = ""
    with contextlib.suppress(ShapeInvalid):
        subject = litellm.subject_of(item, part(item, "metadata"), options)
    return left, subject


def _of_apipark(item: Item, options: Options) -> tuple[dict[str, Any], str]:
    who = apipark.CUSTOMER if options.customer is None else (options.customer,)
    read = ("request_id", "status", "request_time", "ai_model_input_token", "ai_model_output_token")
    names = _names((*read, *who, *apipark.TIME, *apipark.KEPT))
    return _pick(item, names), first_text(item, *who)


def _of_lago(item: Item, options: Options) -> tuple[dict[str, Any], str]:  # noqa: ARG001
    who = ("external_customer_id", "external_subscription_id")
    left = _pick(item, _names(("transaction_id", "code", "timestamp", lago.AMOUNT, *who)))
    if "properties" in item:
        left["properties"] = item["properties"]  # these are the event's own
    return left, first_text(item, *who)


_REQUEST: Final = _names(
    (
        *access_log.STATUS, *access_log.METHOD, *access_log.PATH, *access_log.HOST,
        *access_log.ROUTE, *access_log.SERVER, *access_log.BYTES_OUT, *access_log.BYTES_IN,
        *access_log.MODEL, *access_log.PROMPT, *access_log.COMPLETION, *access_log.CACHE_READ,
        *access_log.CACHE_WRITE, *access_log.REASONING, *access_log.DURATION,
    )
)  # fmt: skip


def _of_access_log(item: Item, options: Options) -> tuple[dict[str, Any], str]:
    line = access_log.unwrapped(item)
    who = access_log.CUSTOMER if options.customer is None else (options.customer,)
    own = _names((*access_log.ID, *access_log.HOLD, *access_log.TIME, *who))
    left = _pick(line, {**own, **_REQUEST}) | _pick(line, {"request": _REQUEST})
    parts: list[tuple[Item, Any]] = [(line, left), (part(line, "request"), left.get("request"))]
    for there, kept in parts:
        for name in access_log.PATH:
            path = there.get(name)
            if isinstance(path, str) and "?" in path:
                kept[name] = path.partition("?")[0] + "?"
        if "resp_headers" in there:
            kept.setdefault("resp_headers", {})  # it tells whose `duration` it is
        if "properties" in there:
            more = _names(part(there, "properties"))
            kept.update(_pick(there, {"properties": more}))
            kept.setdefault("properties", {})  # the line's come before the request's
    if not first_text(line, *access_log.ID):
        with contextlib.suppress(ShapeInvalid):
            left["id"] = access_log.told_apart(line)
    return left, first_text(line, *who)


_REMAINS: Final[dict[str, Callable[[Item, Options], tuple[dict[str, Any], str]]]] = {
    "litellm": _of_litellm,
    "apipark": _of_apipark,
    "access-log": _of_access_log,
    "lago": _of_lago,
}
