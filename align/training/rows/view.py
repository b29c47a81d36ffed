"""View: the first rows of a file as a model's tokenizer cuts them, and which tokens carry loss."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from align.data.files.rows import read_rows
from align.data.lint.file import kind_of
from align.data.rows.pair import Row
from align.errors import DataError
from align.models.load import end_token_ids, load_tokenizer
from align.models.resolve import resolve
from align.training.rows.encoding import EncodedRow, encode_chats
from align.training.rows.rendering import Chat
from align.training.rows.rules import TokenRules
from align.training.rows.token_pieces import NEWLINE, Piece, pieces

if TYPE_CHECKING:
    from rich.text import Text

_LEGEND = (
    "of a prompt no token carries loss, of an answer every one does: {how}\n"
    f"{NEWLINE} is a line break; a small number stands behind a character of so many tokens"
)


def print_tokens(model: str, path: str | Path, num_rows: int = 3, with_ids: bool = False) -> None:
    """Print the first good rows of a file as they will be trained on: coloured on a terminal, else with brackets.

    Args:
        model: any form of a model's name; only its tokenizer and generation config are read.
        path: pairs, demonstrations, groups, or prompts alone.
        with_ids: also print the token ids.

    Raises:
        ConfigError: there is no such file or tokenizer.
        DataError: no row can be read, or the chat template writes a prompt differently once an answer follows.
    """
    path = Path(path)
    file = read_rows(path, kind_of(path))
    if not file.rows:
        raise DataError(f"{file.bad[0]}\n{path}: no row can be read")
    resolved = resolve(model)
    tokenizer = load_tokenizer(resolved)
    rules = TokenRules(tokenizer, end_token_ids(resolved))
    places = [f"{path}:{line}" for line in file.lines[:num_rows]]
    chats = [_chats(row) for row in file.rows[:num_rows]]
    encoded = encode_chats(
        [prompt for prompt, _ in chats], [list(sides.values()) for _, sides in chats], places, tokenizer
    )
    is_terminal = sys.stdout.isatty()
    _show(_LEGEND.format(how="green, by turns in two shades" if is_terminal else "each in [ ]"), "dim", is_terminal)
    for place, row, (_, sides) in zip(places, encoded, chats, strict=True):
        _show_row(place, row, list(sides), tokenizer, rules, is_terminal, with_ids)


def _chats(row: Row) -> tuple[Chat, dict[str, Chat]]:
    """The prompt, and the answers by name."""
    columns = row.to_dict()
    sides: dict[str, Chat] = {name: columns[name] for name in ("chosen", "rejected", "completion") if name in columns}
    for index, candidate in enumerate(columns.get("candidates", ())):
        sides[f"candidates[{index}]"] = candidate["messages"]
    return columns["prompt"], sides


def _show_row(
    place: str,
    row: EncodedRow,
    sides: Sequence[str],
    tokenizer: Any,
    rules: TokenRules,
    is_terminal: bool,
    with_ids: bool,
) -> None:
    parts = {"prompt": row.prompt_ids, **dict(zip(sides, row.completions_ids, strict=True))}
    counts = ", ".join(f"{name} {len(ids):,}" for name, ids in parts.items())
    _show(f"\n{place}: {counts} tokens", "bold", is_terminal)
    if fault := rules.fault(row, sides):
        _show(f"training would refuse or drop this row ({fault.reason}): {fault.detail}", "red", is_terminal)
    for name, ids in parts.items():
        after = None if name == "prompt" else row.prompt_ids[-1]
        _show(f"{name}:", "cyan", is_terminal)
        _show_pieces(list(pieces(ids, tokenizer, after)), name != "prompt", is_terminal)
        if with_ids:
            _show(_listed(ids), "dim", is_terminal)


def _show_pieces(found: Sequence[Piece], is_trained: bool, is_terminal: bool) -> None:
    if not is_terminal:
        print("".join(_bracketed(piece) if is_trained else str(piece) for piece in found).rstrip("\n"))
        return
    from rich.console import Console

    Console(highlight=False).print(coloured(found, is_trained))


def coloured(found: Sequence[Piece], is_trained: bool) -> Text:
    """Pieces for a terminal: green where they carry loss, else dim; special ones stand out, neighbours differ."""
    from rich.text import Text

    text = Text()
    shades = ("green", "bright_green") if is_trained else ("dim", "dim italic")
    for index, piece in enumerate(found):
        text.append(str(piece), f"{shades[index % 2]}{' bold reverse' if piece.is_special else ''}")
    text.rstrip()
    return text


def _bracketed(piece: Piece) -> str:
    text = str(piece)
    line_end = "\n" if text.endswith("\n") else ""
    return f"[{text.removesuffix(line_end)}]{line_end}"


def _listed(ids: array[int]) -> str:
    return "ids: " + " ".join(map(str, ids))


def _show(text: str, style: str, is_terminal: bool) -> None:
    if not is_terminal:
        print(text)
        return
    from rich.console import Console

    Console(highlight=False).print(text, style=style, markup=False)
