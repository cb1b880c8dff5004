"""LiteLLM's StandardLoggingPayload: one call to a language model, as its callbacks send it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from metering.domain.shapes.reading import (
    EPOCH,
    Item,
    Options,
    ShapeInvalid,
    Told,
    decimal_text,
    first_text,
    first_whole,
    missing,
    moment,
    part,
    scalars,
    text,
)
from metering.domain.shapes.tokens import disjoint

TYPE: Final = "llm.completion"
_MICROSECOND: Final = timedelta(microseconds=1)
_OURS = "fb_key_"
# Who the customer is, by what `?customer=` may say. The key's own come first: an end user's name
# is whatever the client of that key says it is.
WHO: Final = {
    "org": ("user_api_key_org_id",),
    "team": ("user_api_key_team_id",),
    "project": ("user_api_key_project_id",),
    "user": ("user_api_key_user_id",),
    "alias": ("user_api_key_alias",),
    "end_user": ("user_api_key_end_user_id",),
}
_IN_TURN: Final = ("org", "team", "project", "user", "end_user")
_NOBODY: Final = "default_user_id"  # what LiteLLM calls the holder of its master key
KEPT: Final = {
    "model": "model",
    "model_group": "model_group",
    "custom_llm_provider": "provider",
    "call_type": "call_type",
    "status": "status",
    "stream": "stream",
    "cache_hit": "cache_hit",
    "trace_id": "trace_id",
}


def translate(item: Item, options: Options) -> Told:
    """One call. `litellm_call_id` makes it count once; prompts and answers are not kept.

    A failed attempt has an id of its own, by when it began: those that follow it have the same call
    id. It is flagged `failed`, and `aborted` where a stream broke off; what it used until then
    counts under that id, and the hold is left to the attempt that succeeds.
    """
    metadata = part(item, "metadata")
    id_ = _call_id(item, metadata)
    tokens = _tokens(item, part(metadata, "usage_object"))
    failed = item.get("status") == "failure"
    aborted = item.get("stream") is True and (failed or has_error(item))
    data: dict[str, object] = dict(scalars(item, KEPT))
    data |= tokens | {"failed": failed, "aborted": aborted}
    cost = decimal_text(item.get("response_cost"))
    if cost is not None:
        data["upstream_cost_usd"] = cost
    hold = _hold(metadata)
    if hold and not failed:
        data["hold"] = hold
    ended_at = moment(item.get("endTime"), param="endTime")
    started_at = moment(item.get("startTime"), param="startTime")
    if started_at is not None and ended_at is not None and ended_at >= started_at:
        data["duration_ms"] = int((ended_at - started_at).total_seconds() * 1000)
    return Told(
        id=_failure_id(id_, started_at or ended_at) if failed else id_,
        subject=subject_of(item, metadata, options),
        type=options.type or TYPE,
        occurred_at=ended_at or started_at,
        data=data,
    )


def _call_id(item: Item, metadata: Item) -> str:
    found = first_text(item, "litellm_call_id", "call_id") or text(metadata.get("litellm_call_id"))
    if not found:
        raise missing(
            "litellm_call_id", "litellm_call_id makes the call count once; id is the provider's"
        )
    return found


def _failure_id(call_id: str, at: datetime | None) -> str:
    """The same for the same attempt: its call and its time, in microseconds of Unix time."""
    return (
        f"{call_id}:failure" if at is None else f"{call_id}:failure:{(at - EPOCH) // _MICROSECOND}"
    )


def subject_of(item: Item, metadata: Item, options: Options) -> str:
    """Who pays: said by the key's own metadata, else the key as it is ours, else its holder."""
    if options.customer is not None:
        return _asked(item, metadata, options.customer)
    ours = text(part(metadata, "user_api_key_auth_metadata").get("farebox_customer"))
    key = text(metadata.get("user_api_key_hash"))
    if ours:
        return ours
    if key.startswith(_OURS):
        return key
    for who in _IN_TURN:
        found = first_text(metadata, *WHO[who])
        if found and found != _NOBODY:
            return found
    found = text(item.get("end_user"))
    if not found:
        raise missing(
            "metadata", "no customer: the key has no farebox_customer, organisation, team or user"
        )
    return found


def _asked(item: Item, metadata: Item, who: str) -> str:
    names = WHO.get(who)
    if names is None:
        raise ShapeInvalid(
            "parameter_invalid", "customer", f"?customer= is one of {', '.join(WHO)}"
        )
    found = first_text(metadata, *names)
    if not found and who == "end_user":
        found = text(item.get("end_user"))
    if not found:
        raise missing(f"metadata.{names[0]}", f"the call names no {who}")
    return found


def _hold(metadata: Item) -> str:
    """The hold that this call settles, where custom_auth wrote it into the key's metadata.

    Not from the metadata of the request: what a client writes there must not lose its usage.
    """
    return text(part(metadata, "user_api_key_auth_metadata").get("farebox_hold"))


def _tokens(item: Item, usage: Item) -> dict[str, object]:
    prompt = part(usage, "prompt_tokens_details")
    completion = part(usage, "completion_tokens_details")
    read = first_whole(prompt, "cached_tokens")
    write = first_whole(prompt, "cache_creation_tokens")
    return disjoint(
        prompt=_either(item, usage, "prompt_tokens"),
        completion=_either(item, usage, "completion_tokens"),
        cache_read=read if read is not None else first_whole(usage, "cache_read_input_tokens"),
        cache_write=(
            write if write is not None else first_whole(usage, "cache_creation_input_tokens")
        ),
        reasoning=first_whole(completion, "reasoning_tokens"),
        audio_input=first_whole(prompt, "audio_tokens"),
        cached_audio=first_whole(part(prompt, "cached_tokens_details"), "audio_tokens"),
        audio_output=first_whole(completion, "audio_tokens"),
    )


def _either(item: Item, usage: Item, name: str) -> int | None:
    found = first_whole(item, name)
    return found if found is not None else first_whole(usage, name)


def has_error(item: Item) -> bool:
    """Whether the call says that it failed, or how."""
    error = part(item, "error_information")
    return bool(first_text(error, "error_class", "error_code", "error_message"))
