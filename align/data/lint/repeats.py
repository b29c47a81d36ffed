"""Repeats: rows that stand twice, nearly stand twice, or stand in another file too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from align.data.lint.duplicates import are_near, near_duplicates
from align.data.lint.gates import Fault, side_text
from align.data.lint.report import Finding
from align.data.rows.pair import Demonstration, Group, Messages, PreferencePair, Prompt, Row
from align.data.rows.task import Task
from align.text.normal import normalised
from align.text.shorten import shorten


def mark_repeats(
    rows: Sequence[Row],
    prompts: Sequence[str],
    faults: list[Fault | None],
    against: Mapping[str, Sequence[Row]],
    near: float,
    places: Sequence[str],
) -> Finding:
    """Write into `faults` the rows that stand in another file, and those that repeat a row that is kept."""
    others = [(name, number, prompt_text(row)) for name, there in against.items() for number, row in enumerate(there)]
    matches = near_duplicates([*(text for _, _, text in others), *prompts], near)
    own = []
    for first, second, alike in matches:
        index = second - len(others)
        if first >= len(others) and _system(rows[first - len(others)]) == _system(rows[index]):
            own.append((first - len(others), index, alike))
        elif first < len(others) <= second and faults[index] is None:
            name, number, text = others[first]
            how = "the prompt" if alike == 1 else f"a prompt {alike:.2f} alike"
            faults[index] = Fault("in_other_file", f"{name} has {how}, its row {number + 1}: {shorten(text, 60)!r}")
    num_prompts = len({second for _, second, _ in own})
    for first, second, is_equal in _same_rows(rows, prompts, own, near):
        if faults[first] is None and faults[second] is None:
            faults[second] = Fault("duplicate" if is_equal else "near_duplicate", f"repeats {places[first]}")
    note = "rows whose prompt, or one near it, stands in an earlier row"
    return Finding("repeated prompt", num_prompts, len(rows), "note" if num_prompts else "ok", note)


def prompt_text(row: Row) -> str:
    """Without the system message, which a test file may lack."""
    return normalised("\n".join(message.content for message in _messages(row) if message.role != "system"))


def _same_rows(
    rows: Sequence[Row], prompts: Sequence[str], own: Sequence[tuple[int, int, float]], near: float
) -> Iterator[tuple[int, int, bool]]:
    """(earlier, later, whether equal) of rows near in the prompt and in every answer, by order of the later one."""
    if rows and isinstance(rows[0], Prompt | Task):
        yield from ((first, second, alike == 1) for first, second, alike in own)
        return
    suspects = sorted({index for first, second, _ in own for index in (first, second)})
    answers = {index: _answers(rows[index]) for index in suspects}
    alike_prompts = {(prompts[first], prompts[second]) for first, second, _ in own}
    whole = [" ".join([prompts[index], *answers[index]]) for index in suspects]
    for match in near_duplicates(whole, near):
        first, second = suspects[match.first], suspects[match.second]
        is_same_prompt = prompts[first] == prompts[second] or (prompts[first], prompts[second]) in alike_prompts
        if not is_same_prompt or len(answers[first]) != len(answers[second]):
            continue
        if all(are_near(one, other, near) for one, other in zip(answers[first], answers[second], strict=True)):
            yield first, second, prompts[first] == prompts[second] and answers[first] == answers[second]


def _system(row: Row) -> str:
    return "".join(message.content for message in _messages(row) if message.role == "system")


def _messages(row: Row) -> Messages:
    messages: Messages = row.messages if isinstance(row, Prompt) else getattr(row, "prompt", ())
    return messages


def _answers(row: Row) -> list[str]:
    if isinstance(row, PreferencePair):
        answers = [row.chosen, row.rejected]
    elif isinstance(row, Demonstration):
        answers = [row.completion]
    else:
        answers = [one.messages for one in row.candidates] if isinstance(row, Group) else []
    return [normalised(side_text(answer)) for answer in answers]
