"""Gates: what makes a preference pair unable to teach, found without a model.

Each gate is a pure function on the prompt, the text of one side and what `meta` knows of that side; it returns None,
or the `Fault` it found. Where it cannot tell, it returns None: a good answer lost costs more than a bad one kept,
which a judge may still find. `apply_gates` asks those that are on.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import Field

from align.data.lint.refusals import refusing_opening
from align.data.rows.pair import Dropped, Messages, PreferencePair
from align.settings.base import Settings
from align.text.normal import normalised
from align.text.scripts import WORD_OF
from align.text.shorten import on_one_line

Language = Literal["auto", "en", "zh", "any"]


class Fault(NamedTuple):
    """Why an answer cannot teach."""

    reason: str
    """Short slug, the gate's name."""
    detail: str


class SideGates(Settings):
    """Which gates one side of a pair has to pass."""

    empty: bool = True
    """Drop an answer without a letter, digit or symbol."""
    cut_off: bool = True
    """Drop an answer that did not end by itself: its missing end teaches the model when to stop, or not to."""
    refusal: bool = True
    """Drop an answer that opens as a refusal or as "As an AI"."""
    wrong_language: bool = True
    """Drop an answer in another script than `language` wants: such a pair teaches the language and little else."""
    max_chars: int | None = Field(default=None, ge=1)
    """Longest answer in characters; None: any length."""
    max_words: int | None = Field(default=None, ge=1)
    """Longest answer in words, where each Chinese, Japanese or Thai character is one; None: any length."""


class RejectedGates(SideGates):
    """Those of the rejected side: a refusal is a fair one, while a cut-off answer or one in another language teaches
    length or language."""

    refusal: bool = False
    """Drop an answer that opens as a refusal or as "As an AI"."""


class GateSettings(Settings):
    """Which gates a pair has to pass."""

    identical: bool = True
    """Drop a pair whose sides differ in case, spaces and punctuation only."""
    language: Language = "auto"
    """Language of the answers, told by script: `auto` takes that of the prompt's last user turn, `any` asks nothing."""
    chosen: SideGates = Field(default_factory=SideGates)
    rejected: RejectedGates = Field(default_factory=RejectedGates)


def apply_gates(pair: PreferencePair, settings: GateSettings) -> Dropped | None:
    """The first fault of the pair, named `identical`, `chosen_cut_off`, `rejected_wrong_language` and so on, or None.

    The parts of `meta` that describe a side stand under its name, as in `meta["chosen"]["finish_reason"]`.
    """
    chosen, rejected = side_text(pair.chosen), side_text(pair.rejected)
    for name, text, gates in (("chosen", chosen, settings.chosen), ("rejected", rejected, settings.rejected)):
        meta = pair.meta.get(name)
        known = meta if isinstance(meta, Mapping) else {}
        if fault := side_fault(pair.prompt, text, known, gates, settings.language):
            return Dropped(f"{name}_{fault.reason}", fault.detail, pair.meta)
    if settings.identical and (fault := identical(chosen, rejected)):
        return Dropped(fault.reason, fault.detail, pair.meta)
    return None


def side_fault(
    prompt: Messages, text: str, meta: Mapping[str, Any], gates: SideGates, language: Language
) -> Fault | None:
    """The first fault of one side, without the name of the side; `meta` is what is known of it."""
    return (
        (empty(text) if gates.empty else None)
        or (cut_off(meta) if gates.cut_off else None)
        or (refusal(text) if gates.refusal else None)
        or (wrong_language(prompt, text, language) if gates.wrong_language else None)
        or too_long(text, gates.max_chars, gates.max_words)
    )


def side_text(answer: Messages) -> str:
    """What the assistant says in an answer; what tools say is not its own."""
    return "\n".join(message.content for message in answer if message.role == "assistant")


def empty(text: str) -> Fault | None:
    """Nothing but spaces, punctuation and characters that do not show. An emoji is something."""
    if any(unicodedata.category(letter)[0] in "LNS" for letter in text):
        return None
    return Fault("empty", f"holds only {text.strip()[:20]!a}")


def identical(chosen: str, rejected: str) -> Fault | None:
    """The same text but for case, spaces and punctuation. Signs that carry sense, such as in 1.5 or a != b, count."""
    starts = normalised(chosen[:80]), normalised(rejected[:80])
    num_sure = min(map(len, starts)) - 10  # the cut may change the last few
    if num_sure > 0 and starts[0][:num_sure] != starts[1][:num_sure]:
        return None
    if normalised(chosen) != normalised(rejected):
        return None
    return Fault("identical", f"both sides say {_start(chosen)}")


def cut_off(meta: Mapping[str, Any]) -> Fault | None:
    """The answer has a finish reason and it is not `stop`. One without is not judged."""
    finish_reason = meta.get("finish_reason")
    if finish_reason is None or finish_reason == "stop":
        return None
    return Fault("cut_off", f"finish_reason is {str(finish_reason)[:40]!a}, not stop")


def refusal(text: str) -> Fault | None:
    """The answer opens as a refusal, in English or Chinese. What comes later in it is not looked at."""
    opening = refusing_opening(text)
    return None if opening is None else Fault("refusal", f"opens with {_start(opening)}")


def wrong_language(prompt: Messages, text: str, language: Language, min_share: float = 0.25) -> Fault | None:
    """Less than `min_share` (0 to 1) of the answer is in a script that was asked for.

    Scripts are told apart, not languages: English and French are both `latin`, Chinese and Japanese both `han`.
    Words are counted, and each character where words are not spaced; code, links and formulas are left out. Not
    judged: an answer of fewer than five words, and with `auto` a prompt that names a language or a translation.
    """
    if language == "any" or (
        _is_latin(text) and (language == "en" or (language == "auto" and _is_latin(_last_turn(prompt))))
    ):
        return None
    wanted = {"en": {"latin"}, "zh": {"han"}}.get(language) or _scripts_of(prompt)
    counts = _count_scripts(text)
    num_words = counts.total()
    if not wanted or num_words < 5 or sum(counts[script] for script in wanted) >= num_words * min_share:
        return None
    main = counts.most_common(1)[0][0]
    return Fault("wrong_language", f"is mostly {main}, not {' or '.join(sorted(wanted))}: {_start(text)}")


def too_long(text: str, max_chars: int | None, max_words: int | None) -> Fault | None:
    """More characters or words than the limit; None is no limit."""
    if max_chars is not None and len(text) > max_chars:
        return Fault("too_long", f"has {len(text)} characters, more than {max_chars}")
    if max_words is not None and (num_words := sum(1 for _ in _WORD.finditer(text))) > max_words:
        return Fault("too_long", f"has {num_words} words, more than {max_words}")
    return None


def _scripts_of(prompt: Messages) -> set[str]:
    """The scripts an answer may be in: the main one of the last user turn, and any other with three words in it."""
    last_turn = _last_turn(prompt)
    system = next((message.content for message in prompt if message.role == "system"), "")
    counts = _count_scripts(last_turn)
    if counts.total() < 2 or _NAMES_A_LANGUAGE.search(last_turn) or _NAMES_A_LANGUAGE.search(system):
        return set()
    return {script for script, count in counts.items() if count >= 3 or count == max(counts.values())}


def _last_turn(prompt: Messages) -> str:
    return next((message.content for message in reversed(prompt) if message.role == "user"), "")


def _wants_only_latin(prompt: Messages, language: Language) -> bool:
    return language == "en" or (language == "auto" and _is_latin(_last_turn(prompt)))


def _is_latin(text: str) -> bool:
    """No letter of another script that is told apart, so that nothing needs to be counted."""
    return text.isascii() or not _NOT_LATIN.search(text)


def _count_scripts(text: str) -> Counter[str]:
    """Script → words. A single Latin letter is no word, since it may be a variable or the name of an option."""
    if "http" in text or any(sign in text for sign in "`$\\<"):
        text = _NOT_PROSE.sub(" ", text)
    prose = "\n".join(line for line in text.splitlines() if not _is_code(line))
    counts = Counter(latin=sum(1 for word in WORD_OF["latin"].findall(prose) if len(word) > 1))
    if not _is_latin(prose):
        counts.update({name: len(word.findall(prose)) for name, word in WORD_OF.items() if name != "latin"})
    return +counts


def _is_code(line: str) -> bool:
    signs = sum(line.count(sign) for sign in "(){}[]=;<>_|\\")
    return bool(_CODE_LINE.match(line)) or signs > 0.08 * len(line.replace(" ", ""))


def _start(text: str) -> str:
    return repr(on_one_line(text, 60))


_WORD = re.compile("|".join([*(word.pattern for word in WORD_OF.values()), r"[^\W_]+"]))
_LETTERS = (word.pattern.strip("[]+") for script, word in WORD_OF.items() if script != "latin")
_NOT_LATIN = re.compile(f"[{''.join(_LETTERS)}]")

_NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+|\$\$.*?\$\$|\$[^$\n]+\$|\\[A-Za-z]+|<[^<>\n]+>", re.DOTALL
)
_CODE_LINE = re.compile(r" {4}|\t|\s*(?:return|import|def|elif|const|#include|SELECT)\b")

_NAMES_A_LANGUAGE = re.compile(
    r"translat|[翻口笔]译|译[成为]|[英中日韩法德俄汉粤国][文语]|\b(?:arabic|cantonese|chinese|english|french|german|italian|"
    r"japanese|korean|mandarin|portuguese|russian|spanish)\b",
    re.IGNORECASE,
)
