"""Model JSON: what is exactly JSON is read, everything else is an error, and nothing hides a contradiction."""

from __future__ import annotations

import pytest

from align.text.model_json import last_object, whole_json

NAMED, BARE = '```json\n{"a": 1}\n```', '```\n{"a": 1}\n```'


@pytest.mark.parametrize("text", ['{"a": 1}', ' \n{"a":1}\n', '\u3000{"a": 1}'])
def test_one_value_is_read_with_and_without_a_fence(text):
    assert whole_json(text) == whole_json(text, "named") == whole_json(text, "any") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "fences"),
    [
        (NAMED, {"named", "any"}),
        (f"\n{NAMED} \n", {"named", "any"}),
        ('```json {"a": 1}```', {"any"}),
        (BARE, {"any"}),
        (f"Sure:\n{NAMED}", set()),
        (f"{NAMED}\n{NAMED}", set()),
        (f"{NAMED}\nHope it helps", set()),
        ('```json\n{"a": 1}', set()),
        ('```python\n{"a": 1}\n```', set()),
    ],
)
def test_a_block_counts_as_far_as_the_fence_allows(text, fences):
    for fence in ("none", "named", "any"):
        if fence in fences:
            assert whole_json(text, fence) == {"a": 1}
        else:
            with pytest.raises(ValueError, match=r"Expecting|Extra data"):
                whole_json(text, fence)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "Expecting value"),
        ('{"a": 1} {"a": 1}', "Extra data"),
        ("{'a': 1}", "Expecting property name"),
        ('{"a": 1, "a": 2}', "the same name twice"),
        ('[{"a": {"b": 1, "b": 1}}]', "the same name twice"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("1" * 5_000, "4300"),
    ],
)
def test_anything_else_is_an_error_that_says_why(text, match):
    with pytest.raises(ValueError, match=match):
        whole_json(text)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('I think so. {"a": 1}', {"a": 1}),
        (f"{NAMED}", {"a": 1}),
        ('{"a": 2} is wrong; rather {"a": 1}.', {"a": 1}),
        ('The set {x} is empty. {"a": {"b": 1}}', {"a": {"b": 1}}),
        ('[{"a": 1}, {}]', {}),
        ("no object", None),
        ('{"a": 1} and {"a": 2', None),
        ('{"a": 1, "a": 2}', None),
        ('{"a": NaN}', None),
        ("{" * 5000 + "}", {}),
    ],
)
def test_the_last_object_is_found_among_words(text, found):
    assert last_object(text) == found
