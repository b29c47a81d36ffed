"""Views: a question, the help and the closing tables as they stand on a terminal, Chinese two columns a character."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align.data.rows.pair import Messages
from align.evaluation.noise import Noise
from align.review.session import Question

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

SIDE_BY_SIDE = 100
"""Columns from which on A and B stand side by side."""
KEYS = "a A is better · b B is better · t equal · s skip · u undo · q quit · ? help"
HELP = """\
  a  A answers the prompt better     t  neither is better
  b  B answers the prompt better     s  you cannot say; it is not asked again
  u  take the last answer back       q  quit; the same command goes on from here

Which side the dataset calls chosen is hidden; which one is A is drawn for each
pair. An answer is on disk before the next pair is shown. The estimate is about
the pairs that nobody checked. It is renewed at every fifth label, so that it
does not tell what you just answered.
"""


def question_screen(question: Question, num_pairs: int, summary: str, width: int) -> RenderableType:
    """One question: the prompt, the two sides, the estimate so far and the keys; `width` in columns."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.rule import Rule
    from rich.table import Table
    from rich.text import Text

    texts = [_as_text(getattr(question.pair, side)) for side in question.sides]
    panels = [
        Panel(text, title=name, title_align="left", border_style=colour)
        for text, name, colour in zip(texts, "AB", ("cyan", "yellow"), strict=True)
    ]
    sides: RenderableType = Group(*panels)
    if width >= SIDE_BY_SIDE:
        grid = Table.grid(expand=True, padding=(0, 1))
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(*panels)
        sides = grid
    return Group(
        Rule(f"pair {question.number:,} of {num_pairs:,}", align="left", style="dim"),
        _as_text(question.pair.prompt),
        Text(),
        sides,
        Text(summary),
        Text(KEYS, style="dim"),
    )


def closing_table(noise: Noise) -> Table:
    """Labels by stratum."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("pairs where")
    for name in ("pairs", "ok", "wrong", "tie", "skipped", "not asked"):
        table.add_column(name, justify="right")
    for one in noise.strata:
        numbers = (one.num_pairs, one.num_ok, one.num_wrong, one.num_tie, one.num_skipped, one.num_rest)
        table.add_row(_STRATA[one.name], *(f"{number:,}" for number in numbers))
    return table


def closing_lines(noise: Noise) -> list[str]:
    """What is known of the pairs that nobody checked, and of the set as `--apply` writes it."""
    lines = [
        f"wrong among the {noise.total('num_rest'):,} pairs not asked: {noise.rest}",
        f"wrong after corrections, in the set that --apply writes: {noise.after}",
        f"wrong before, in the whole file: {noise.before}",
    ]
    if noise.total("num_tie"):
        lines.append(f"equal sides among those not asked: {noise.ties}")
    if num_skipped := noise.total("num_skipped"):
        worst = noise.if_skipped_wrong
        lines.append(f"{num_skipped:,} skipped, taken to be like the others; if all are wrong: {worst}")
    return lines


def visible(text: str) -> str:
    """The text without what would steer the terminal: escape characters are shown, signs without width left out."""
    return "".join(sign if sign == "\n" or sign.isprintable() else _STEERING.get(sign, "\ufffd") for sign in text)


def _as_text(messages: Messages) -> Text:
    """One message as it is; several with their roles. Folded: in a grid, rich cuts long Chinese lines off otherwise."""
    from rich.text import Text

    if len(messages) == 1:
        return Text(visible(messages[0].content.strip()), overflow="fold")
    lines = Text(overflow="fold")
    for number, message in enumerate(messages):
        lines.append("\n" * (number > 0) + f"{message.role}: ", style="bold")
        lines.append(visible(message.content.strip()))
    return lines


_STEERING = {
    "\t": "    ",
    "\r": "",
    "\u3000": "\u3000",
    "\x1b": "\u241b",
    **dict.fromkeys("\u200b\u200d\ufeff\ufe0f", ""),
}
_STRATA = {"split": "judges disagree", "near": "a gate nearly fired", "other": "nothing is suspicious"}
