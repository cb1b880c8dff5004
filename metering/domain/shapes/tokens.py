"""Token classes that do not overlap, and the names of other vocabularies for them.

Providers and gateways count cached tokens into the input and reasoning into the output; summed as
they are, they are charged twice. Here each token is in exactly one class:

    prompt_tokens     = input_tokens + cached_input_tokens + cache_write_tokens
    completion_tokens = output_tokens + reasoning_tokens
    total_tokens      = prompt_tokens + completion_tokens
"""

from __future__ import annotations

from collections.abc import Mapping

from metering.domain.shapes.reading import Item, first_text, first_whole

_PROMPT = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "gen_ai.client.inference.usage.input_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
)
_CACHE_READ = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "llm.token_count.prompt_details.cache_read",
)
_CACHE_WRITE = (
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.input_tokens.cache_write",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
_COMPLETION = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
)
_REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.output_tokens.reasoning",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "llm.token_count.completion_details.reasoning",
)
_MODEL = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
_PROVIDER = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
PREFIXES = ("gen_ai.", "llm.")


def disjoint(
    *,
    prompt: int | None,
    completion: int | None,
    cache_read: int | None = None,
    cache_write: int | None = None,
    reasoning: int | None = None,
) -> dict[str, object]:
    """The properties of all classes, every one 0 or more.

    `prompt` includes what was cached and `completion` the reasoning. Where the parts are more than
    the whole, the whole was counted without them, and they are added: no token is lost.
    """
    read, write, thought = cache_read or 0, cache_write or 0, reasoning or 0
    whole_in, whole_out = prompt or 0, completion or 0
    if read + write > whole_in:
        whole_in += read + write
    if thought > whole_out:
        whole_out += thought
    return {
        "input_tokens": whole_in - read - write,
        "cached_input_tokens": read,
        "cache_write_tokens": write,
        "output_tokens": whole_out - thought,
        "reasoning_tokens": thought,
        "prompt_tokens": whole_in,
        "completion_tokens": whole_out,
        "total_tokens": whole_in + whole_out,
    }


def with_our_names(data: Mapping[str, object]) -> Mapping[str, object]:
    """An event's data, with our names beside those of OpenTelemetry and OpenInference.

    What it has under our names already is left as it is, and so is data without such attributes.
    """
    if not any(name.startswith(PREFIXES) for name in data):
        return data
    found: dict[str, object] = {}
    counted = {
        "prompt": first_whole(data, *_PROMPT),
        "completion": first_whole(data, *_COMPLETION),
        "cache_read": first_whole(data, *_CACHE_READ),
        "cache_write": first_whole(data, *_CACHE_WRITE),
        "reasoning": first_whole(data, *_REASONING),
    }
    if any(value is not None for value in counted.values()):
        found = disjoint(**counted)
    found |= names_of(data)
    return found | dict(data)


def renewed(data: Mapping[str, object], *, before: Mapping[str, object]) -> dict[str, object]:
    """`with_our_names` of data that may have been edited from an event's, as that was kept.

    What stands under our names only because it was made of the others in `before`, and is as it
    was there, is made anew of theirs: whoever reports the new data does not say it. What is said
    under our names otherwise is left as it is, and so is what there is nothing to make of anew.
    """
    made = with_our_names({name: before[name] for name in before if name.startswith(PREFIXES)})
    ours = {name for name in made if not name.startswith(PREFIXES)}
    said = {
        name: value
        for name, value in data.items()
        if not (name in ours and value == made[name] == before.get(name))
    }
    return dict(data) | dict(with_our_names(said))


def names_of(data: Item) -> dict[str, object]:
    """`model` and `provider`, where the data names them."""
    named = {"model": first_text(data, *_MODEL), "provider": first_text(data, *_PROVIDER)}
    return {name: value for name, value in named.items() if value}
