"""Token classes that do not overlap, and the names of other vocabularies for them.

Providers and gateways count cached tokens and audio into the input, reasoning and audio into the
output; summed as they are, they are charged twice. Here each token is in exactly one class:

    prompt_tokens     = input_tokens + cached_input_tokens + cache_write_tokens + audio_input_tokens
    completion_tokens = output_tokens + reasoning_tokens + audio_output_tokens
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
_AUDIO_INPUT = (
    "gen_ai.usage.audio.input_tokens",
    "gen_ai.usage.input_audio_tokens",
    "gen_ai.usage.input_tokens.audio",
    "llm.token_count.prompt_details.audio",
)
_CACHED_AUDIO = ("gen_ai.usage.audio.cache_read.input_tokens",)
_AUDIO_OUTPUT = (
    "gen_ai.usage.audio.output_tokens",
    "gen_ai.usage.output_audio_tokens",
    "gen_ai.usage.output_tokens.audio",
    "llm.token_count.completion_details.audio",
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
    audio_input: int | None = None,
    cached_audio: int | None = None,
    audio_output: int | None = None,
) -> dict[str, object]:
    """The properties of all classes, every one 0 or more.

    `prompt` includes what was cached and the audio, `completion` the reasoning and the audio.
    Where a part is more than the whole, the whole was counted without it, and it is added: no
    token is lost. Audio that was cached, `cached_audio`, is in `audio_input` too, and is cached
    tokens here; so is what cached tokens and audio together are more than the whole.
    """
    read, write, thought = cache_read or 0, cache_write or 0, reasoning or 0
    heard, spoken = audio_input or 0, audio_output or 0
    again = min(cached_audio or 0, heard, read)
    whole_in = _whole(prompt or 0, read + write, audio=heard, fresh=heard - again)
    whole_out = _whole(completion or 0, thought, audio=spoken, fresh=spoken)
    heard = min(heard - again, whole_in - read - write)
    spoken = min(spoken, whole_out - thought)
    return {
        "input_tokens": whole_in - read - write - heard,
        "cached_input_tokens": read,
        "cache_write_tokens": write,
        "audio_input_tokens": heard,
        "output_tokens": whole_out - thought - spoken,
        "reasoning_tokens": thought,
        "audio_output_tokens": spoken,
        "prompt_tokens": whole_in,
        "completion_tokens": whole_out,
        "total_tokens": whole_in + whole_out,
    }


def _whole(whole: int, others: int, *, audio: int, fresh: int) -> int:
    """The whole with those parts that it was counted without; `fresh` is the audio not cached."""
    return whole + (others if others > whole else 0) + (fresh if audio > whole else 0)


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
        "audio_input": first_whole(data, *_AUDIO_INPUT),
        "cached_audio": first_whole(data, *_CACHED_AUDIO),
        "audio_output": first_whole(data, *_AUDIO_OUTPUT),
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
