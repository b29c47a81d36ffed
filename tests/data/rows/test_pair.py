"""Rows: valid on construction, and an error that names what must hold."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align.data.rows.pair import (
    Candidate,
    Demonstration,
    Dropped,
    Group,
    Message,
    Messages,
    PreferencePair,
    Prompt,
    Row,
    RowError,
)

SYSTEM, USER, TOOL = Message("system", "Be kind."), Message("user", "Who are you?"), Message("tool", "4")
GOOD, POOR = Message("assistant", "I am Ishmael."), Message("assistant", "A bot.")

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
said = texts.filter(lambda text: bool(text.strip()))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
metas = st.dictionaries(texts, json_values, max_size=3)


@st.composite
def answers(draw: st.DrawFn) -> Messages:
    """An assistant message, at times after calls and results."""
    tools = draw(st.lists(st.tuples(said, said), max_size=1))
    calls = [message for call, result in tools for message in (Message("assistant", call), Message("tool", result))]
    return (*calls, Message("assistant", draw(said)))


@st.composite
def questions(draw: st.DrawFn) -> Messages:
    """At times a system message and turns before the question."""
    system = [Message("system", text) for text in draw(st.lists(texts, max_size=1))]
    turns = [
        message for text in draw(st.lists(said, max_size=1)) for message in (Message("user", text), *draw(answers()))
    ]
    return (*system, *turns, Message("user", draw(said)))


def is_pair(sides: tuple[Messages, Messages]) -> bool:
    first, second = ([(one.role, one.content.strip()) for one in side] for side in sides)
    return first != second


candidates = st.builds(Candidate, answers(), st.none() | st.floats(allow_nan=False, allow_infinity=False))
pairs = st.builds(
    lambda prompt, sides, meta: PreferencePair(prompt, *sides, meta),
    questions(),
    st.tuples(answers(), answers()).filter(is_pair),
    metas,
)
rows: st.SearchStrategy[Row] = st.one_of(
    pairs,
    st.builds(Prompt, questions(), metas),
    st.builds(Demonstration, questions(), answers(), metas),
    st.builds(Group, questions(), st.lists(candidates, min_size=2, max_size=3).map(tuple), metas),
    st.builds(Dropped, st.from_regex("[a-z][a-z0-9_]{0,20}", fullmatch=True), texts, metas),
    candidates,
)


@settings(deadline=None)
@given(rows)
def test_any_row_comes_back_from_its_json(row: Row) -> None:
    assert type(row).from_dict(json.loads(json.dumps(row.to_dict()))) == row


def dicts(*messages: Message) -> list[dict[str, str]]:
    return [message.to_dict() for message in messages]


def refused(kind: type[Row], values: Any) -> str:
    with pytest.raises(RowError) as caught:
        kind.from_dict(values)
    return str(caught.value)


def test_json_form_is_the_conversational_format() -> None:
    pair = PreferencePair((USER,), (GOOD,), (POOR,), {"builder": "contrast"})
    assert pair.to_dict() == {
        "prompt": [{"role": "user", "content": "Who are you?"}],
        "chosen": [{"role": "assistant", "content": "I am Ishmael."}],
        "rejected": [{"role": "assistant", "content": "A bot."}],
        "meta": {"builder": "contrast"},
    }
    group = Group((USER,), (Candidate((GOOD,), 1.0), Candidate((POOR,))))
    assert [one["score"] for one in group.to_dict()["candidates"]] == [1.0, None]


@pytest.mark.parametrize(
    ("prompt", "must"),
    [
        ((), "at least one message"),
        ((SYSTEM,), "must end with user or tool, but ends with system"),
        ((USER, GOOD), "must end with user or tool, but ends with assistant"),
        ((USER, SYSTEM, USER), "prompt[1]: system must follow the start, but follows user"),
        ((SYSTEM, SYSTEM, USER), "prompt[1]: system must follow the start, but follows system"),
        ((SYSTEM, GOOD, USER), "prompt[1]: assistant must follow user or tool, but follows system"),
        ((USER, GOOD, GOOD, USER), "prompt[2]: assistant must follow user or tool, but follows assistant"),
        ((USER, USER), "prompt[1]: user must follow the start or system or assistant, but follows user"),
        ((USER, TOOL), "prompt[1]: tool must follow assistant or tool, but follows user"),
        ((Message("user", " \n"),), "prompt[0]: content of user must not be blank"),
    ],
)
def test_prompt_out_of_order_is_refused(prompt: Messages, must: str) -> None:
    with pytest.raises(RowError) as caught:
        Prompt(prompt)
    assert must in str(caught.value)


@pytest.mark.parametrize(
    "prompt", [(USER,), (SYSTEM, USER), (Message("system", ""), USER), (USER, GOOD, USER), (USER, GOOD, TOOL, TOOL)]
)
def test_prompt_in_order_is_accepted(prompt: Messages) -> None:
    assert Prompt(prompt).messages == prompt


@pytest.mark.parametrize(
    ("answer", "must"),
    [
        ((), "chosen must hold at least one message"),
        ((Message("assistant", "\u3000"),), "chosen[0]: content of assistant must not be blank"),
        ((TOOL, GOOD), "chosen[0]: tool must follow assistant or tool, but follows user"),
        ((GOOD, TOOL), "chosen must end with assistant, but ends with tool"),
        ((GOOD, POOR), "chosen[1]: assistant must follow user or tool"),
        ((Message("user", "Hm?"), GOOD), "move the turns before the answer to prompt"),
        ((USER, GOOD), "must hold only the answer, but begins with the whole prompt; remove its first 1"),
    ],
)
def test_answer_that_is_no_answer_is_refused(answer: Messages, must: str) -> None:
    with pytest.raises(RowError) as caught:
        PreferencePair((USER,), answer, (POOR,))
    assert must in str(caught.value)


def test_answer_may_call_tools() -> None:
    assert Demonstration((USER,), (GOOD, TOOL, TOOL, POOR)).completion[-1] == POOR


def test_sides_that_differ_in_outer_spaces_only_are_refused() -> None:
    with pytest.raises(RowError, match="must differ"):
        PreferencePair((USER,), (GOOD,), (Message("assistant", " I am Ishmael.\n"),))


def test_list_of_messages_is_refused_on_construction() -> None:
    with pytest.raises(RowError, match="must be a tuple of Message"):
        Prompt([USER])  # type: ignore[arg-type]
    with pytest.raises(RowError, match="must be a tuple of Message"):
        PreferencePair(({"role": "user"},), (GOOD,), (POOR,))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("role", "content", "must"),
    [
        ("gpt", "Hi", "role must be one of system, user, assistant, tool, but is 'gpt'; write assistant"),
        (["user"], "Hi", "role must be one of"),
        ("user", None, "content must be a string, but is None"),
        ("user", "a\0b", "must not hold NUL, but does at character 2"),
        ("user", "ab\ud83d", r"half a character ('\ud83d') at character 3"),
    ],
)
def test_message_that_no_file_can_hold_is_refused(role: Any, content: Any, must: str) -> None:
    with pytest.raises(RowError) as caught:
        Message(role, content)
    assert must in str(caught.value)


@pytest.mark.parametrize(
    ("change", "must"),
    [
        ({"prompt": "Who?"}, 'prompt must be a list of messages, but is the text \'Who?\'; write [{"role": "user"'),
        ({"chosen": "I am."}, '"assistant"'),
        ({"chosen": {"role": "assistant"}}, "chosen must be a list, but is {'role': 'assistant'}"),
        ({"chosen": ["I am."]}, "chosen[0]: must be"),
        ({"chosen": [{"from": "gpt", "value": "Hi"}]}, "must have role and content, but has from, value; rename"),
        ({"chosen": [{"role": "assistant", "content": "Hi", "tool_calls": []}]}, "but also has tool_calls"),
        ({"meta": 3}, "meta must be an object with names and values, but is 3"),
        ({"source": "ch. 1"}, "also has source; move it under meta"),
        ({"prompt": dicts(USER, GOOD), "chosen": dicts(USER)}, "the two columns look swapped"),
        ({"chosen": dicts(USER, GOOD), "rejected": dicts(USER, POOR)}, "must hold only the answer"),
    ],
)
def test_wrong_column_is_named_with_what_to_do(change: dict[str, Any], must: str) -> None:
    values = PreferencePair((USER,), (GOOD,), (POOR,)).to_dict()
    assert must in refused(PreferencePair, {**values, **change})


@pytest.mark.parametrize(
    ("kind", "values", "must"),
    [
        (PreferencePair, {"prompt": [], "completion": []}, "there is prompt, completion; a row with one"),
        (PreferencePair, {"messages": []}, "is for sft"),
        (PreferencePair, {"chosen": [], "rejected": []}, "move the turns that chosen and rejected share to prompt"),
        (PreferencePair, {"promt": [], "chosen": [1], "rejected": []}, "did you mean prompt instead of 'promt'?"),
        (Demonstration, {"prompt": [], "completions": []}, "did you mean completion instead of 'completions'?"),
        (Demonstration, {"prompt": [], "chosen": []}, "rename chosen to completion, or add rejected: a pair will do"),
        (Demonstration, {"chosen": [], "rejected": []}, "move the turns that chosen and rejected share to prompt"),
        (Group, {"prompt": [], "completions": []}, "rename completions to candidates"),
        (Prompt, {"question": "Who?"}, "rename question to prompt"),
        (Prompt, {"prompt": "Hi", "metta": {}}, "also has metta; did you mean meta instead of 'metta'?"),
        (Prompt, {}, "there is nothing"),
        (Prompt, ["prompt"], "a Prompt must be a JSON object, but is ['prompt']"),
    ],
)  # fmt: skip
def test_missing_column_is_named_with_those_that_are_there(kind: type[Row], values: Any, must: str) -> None:
    assert must in refused(kind, values)


def test_null_that_column_formats_fill_in_is_no_mistake() -> None:
    values = {"prompt": [{"role": "user", "content": "Hi", "name": None}], "meta": None}
    assert Prompt.from_dict(values) == Prompt((Message("user", "Hi"),))


def test_demonstration_of_a_pair_is_its_chosen_side() -> None:
    pair = PreferencePair((SYSTEM, USER), (GOOD,), (POOR,), {"builder": "contrast"})
    assert Demonstration.from_dict(pair.to_dict()) == Demonstration((SYSTEM, USER), (GOOD,), {"builder": "contrast"})


@pytest.mark.parametrize(
    ("change", "must"),
    [
        ({"rejected": dicts(GOOD)}, "chosen and rejected must differ"),
        ({"rejected": []}, "rejected must hold at least one message"),
        ({"chosen": dicts(USER, GOOD)}, "chosen must hold only the answer"),
        ({"source": "ch. 1"}, "a PreferencePair must have only prompt, chosen, rejected, meta, but also has source"),
        ({"completion": dicts(GOOD)}, "a Demonstration must have only prompt, completion, meta, but also has chosen"),
    ],
)
def test_pair_that_is_none_is_no_demonstration_either(change: dict[str, Any], must: str) -> None:
    values = PreferencePair((USER,), (GOOD,), (POOR,)).to_dict()
    assert must in refused(Demonstration, {**values, **change})


def test_prompt_may_be_plain_text() -> None:
    assert Prompt.from_dict({"prompt": "Who are you?"}) == Prompt((USER,))


def test_key_of_a_prompt_depends_on_its_messages_only() -> None:
    assert Prompt((USER,), {"topic": "whales"}).key == Prompt((USER,)).key
    assert Prompt((SYSTEM, USER)).key != Prompt((USER,)).key
    assert Prompt((Message("user", "鲸"),)).key == "45f086151f64414cde6ec4c65f71a3827e10f036cf0346912a21fbcd1eeb1dcd"


@pytest.mark.parametrize("score", [float("nan"), float("inf"), "0.8", True, 10**400])
def test_score_that_is_no_finite_number_is_refused(score: Any) -> None:
    assert "score must be a finite number or null" in refused(Candidate, {"messages": dicts(GOOD), "score": score})


def test_group_of_one_is_refused() -> None:
    values = {"prompt": dicts(USER), "candidates": [{"messages": dicts(GOOD), "score": 1}]}
    assert "candidates must be 2 or more, but are 1" in refused(Group, values)


def test_bad_candidate_is_named_by_its_index() -> None:
    candidates = [{"messages": dicts(GOOD), "score": 1}, {"messages": dicts(POOR), "scores": 0}]
    assert "candidates[1]: a Candidate must have only messages, score" in refused(
        Group, {"prompt": dicts(USER), "candidates": candidates}
    )


@pytest.mark.parametrize("reason", ["Cut off", "", "1st", "x" * 65])
def test_reason_that_is_no_slug_is_refused(reason: str) -> None:
    with pytest.raises(RowError, match="must be a slug"):
        Dropped(reason)


def test_row_error_keeps_its_reason_across_processes() -> None:
    error = pickle.loads(pickle.dumps(RowError("prompt is missing", "missing_column")))
    assert (str(error), error.reason) == ("prompt is missing", "missing_column")


def test_rows_survive_pickling() -> None:
    pair = PreferencePair((USER,), (GOOD,), (POOR,), {"a": 1})
    assert pickle.loads(pickle.dumps(pair)) == pair
