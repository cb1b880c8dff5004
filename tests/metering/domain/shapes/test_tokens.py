"""metering.domain.shapes.tokens: each token in one class, under whatever name it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.domain.prices import TOKEN_CLASSES
from metering.domain.shapes.reading import decimal_text, first_whole, plain, text
from metering.domain.shapes.tokens import disjoint, renewed, with_our_names

count = st.none() | st.integers(0, 10**9)


def total(*found: object) -> int:
    assert all(isinstance(each, int) and each >= 0 for each in found)
    return sum(each for each in found if isinstance(each, int))


@given(*[count | st.integers(0, 9)] * 8)
def test_classes_do_not_overlap_and_lose_nothing(
    prompt: int | None,
    completion: int | None,
    read: int | None,
    write: int | None,
    reasoning: int | None,
    heard: int | None,
    heard_before: int | None,
    spoken: int | None,
) -> None:
    found = disjoint(
        prompt=prompt,
        completion=completion,
        cache_read=read,
        cache_write=write,
        reasoning=reasoning,
        audio_input=heard,
        cached_audio=heard_before,
        audio_output=spoken,
    )
    names = ("input", "cached_input", "cache_write", "audio_input")
    classes = [found[f"{name}_tokens"] for name in names]
    assert total(*classes) == found["prompt_tokens"]
    classes += [found[f"{name}_tokens"] for name in ("output", "reasoning", "audio_output")]
    assert total(*classes) == found["total_tokens"]
    assert set(TOKEN_CLASSES.values()) < found.keys()
    assert total(found["prompt_tokens"]) >= (heard or 0)
    assert total(found["completion_tokens"]) >= (spoken or 0)
    assert total(found["total_tokens"]) >= (prompt or 0) + (completion or 0)
    assert total(found["total_tokens"]) >= (read or 0) + (write or 0) + (reasoning or 0)


@pytest.mark.parametrize(
    "data",
    [
        {
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.cache_read.input_tokens": 1000,
            "gen_ai.usage.output_tokens": 300,
            "gen_ai.usage.reasoning.output_tokens": 200,
        },
        {
            "gen_ai.usage.prompt_tokens": "1200",
            "gen_ai.usage.cache_read_input_tokens": 1000,
            "gen_ai.usage.completion_tokens": 300,
            "gen_ai.usage.reasoning_tokens": 200,
        },
        {
            "llm.token_count.prompt": 1200,
            "llm.token_count.prompt_details.cache_read": 1000.0,
            "llm.token_count.completion": 300,
            "llm.token_count.completion_details.reasoning": 200,
        },
    ],
)
def test_names_of_opentelemetry_old_and_new(data: dict[str, object]) -> None:
    found = with_our_names(data)
    assert {name: found[name] for name in data} == data
    assert [found[f"{name}_tokens"] for name in ("input", "cached_input", "cache_write")] == [
        200,
        1000,
        0,
    ]
    assert (found["output_tokens"], found["reasoning_tokens"]) == (100, 200)
    assert found["total_tokens"] == 1500


@pytest.mark.parametrize(
    ("prompt", "read", "heard", "heard_before", "classes"),
    [
        (100, 20, 30, None, (50, 20, 30)),
        (60, 30, 40, 20, (10, 30, 20)),  # 20 are cached and audio: cached
        (100, 80, 60, None, (0, 80, 20)),  # so are 40, though nobody says so
        (10, 0, 30, None, (10, 0, 30)),  # counted beside the whole
        (None, None, 30, None, (0, 0, 30)),
        (50, 10, 10, 90, (40, 10, 0)),
    ],
)
def test_audio_is_a_class_of_its_own(
    prompt: int | None,
    read: int | None,
    heard: int,
    heard_before: int | None,
    classes: tuple[int, int, int],
) -> None:
    found = disjoint(
        prompt=prompt,
        completion=None,
        cache_read=read,
        audio_input=heard,
        cached_audio=heard_before,
    )
    names = ("input", "cached_input", "audio_input")
    assert tuple(found[f"{name}_tokens"] for name in names) == classes


@pytest.mark.parametrize(
    "data",
    [
        {
            "gen_ai.usage.input_tokens": 60,
            "gen_ai.usage.cache_read.input_tokens": 30,
            "gen_ai.usage.audio.input_tokens": 40,
            "gen_ai.usage.audio.cache_read.input_tokens": 20,
            "gen_ai.usage.output_tokens": 40,
            "gen_ai.usage.audio.output_tokens": 25,
        },
        {
            "llm.token_count.prompt": 60,
            "llm.token_count.prompt_details.cache_read": 30,
            "llm.token_count.prompt_details.audio": 20,
            "llm.token_count.completion": 40,
            "llm.token_count.completion_details.audio": 25,
        },
    ],
)
def test_audio_under_names_of_opentelemetry(data: dict[str, object]) -> None:
    found = with_our_names(data)
    names = ("input", "cached_input", "audio_input", "output", "audio_output")
    assert [found[f"{name}_tokens"] for name in names] == [10, 30, 20, 15, 25]


def test_our_own_names_win_and_other_data_is_left_alone() -> None:
    plain_data = {"input_tokens": 5, "model": "m"}
    assert with_our_names(plain_data) is plain_data
    mixed = plain_data | {"gen_ai.usage.input_tokens": 9, "gen_ai.response.model": "other"}
    found = with_our_names(mixed)
    assert (found["input_tokens"], found["model"], found["prompt_tokens"]) == (5, "m", 9)
    named = with_our_names({"gen_ai.request.model": "m-1", "gen_ai.system": "openai"})
    assert (named["model"], named["provider"]) == ("m-1", "openai")
    assert "input_tokens" not in named


theirs = st.fixed_dictionaries(
    {"gen_ai.usage.input_tokens": st.integers(0, 9), "gen_ai.request.model": st.sampled_from("ab")},
    optional={"llm.provider": st.just("p"), "gen_ai.usage.reasoning_tokens": st.integers(0, 9)},
)


@given(theirs, theirs)
def test_what_was_made_of_old_names_is_made_anew_of_new_ones(
    before: dict[str, object], after: dict[str, object]
) -> None:
    shown = with_our_names(before)
    edited = {name: value for name, value in shown.items() if name not in before} | after
    found = renewed(edited, before=shown)
    left = {"provider": "p"} if "llm.provider" in before else {}  # nothing says who it is now
    assert found == left | dict(with_our_names(after))
    assert renewed(found, before=found) == found
    assert renewed(after, before={}) == with_our_names(after)


@given(theirs, st.integers(100, 999))
def test_what_was_said_under_our_names_stays(before: dict[str, object], ours: int) -> None:
    shown = with_our_names(before | {"total_tokens": ours})
    edited = dict(shown) | {"gen_ai.usage.input_tokens": 7, "model": "c"}
    found = renewed(edited, before=shown)
    assert (found["total_tokens"], found["model"], found["input_tokens"]) == (ours, "c", 7)
    bare = {name: value for name, value in shown.items() if name not in before}
    assert renewed(bare, before=shown) == bare  # nothing to make them of anew


def test_how_members_are_read() -> None:
    values: tuple[object, ...] = (True, "a", "-", 7, None, 1.5, [])
    assert [text(value) for value in values] == [
        "", "a", "", "7", "", "", "",
    ]  # fmt: skip
    assert [plain(value) for value in ("12", "-3", "012", "1.0", 2.0, 2.5, True, None)] == [
        12, -3, "012", "1.0", 2, 2.5, True, None,
    ]  # fmt: skip
    assert first_whole({"a": -1, "b": "x", "c": "4"}, "a", "b", "c") == 4
    assert [decimal_text(value) for value in (1e-7, 0, "2.50", "x", True, None, "1e99", "inf")] == [
        "0.0000001", "0", "2.5", None, None, None, None, None,
    ]  # fmt: skip
