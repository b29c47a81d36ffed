"""Plain: takes the formatting off an answer, so that headings, bold type, bullets and emoji win no verdict.

Code, fenced or in backticks, stays as it is; so do words, numbers, the order of lines and numbered steps.
"""

from __future__ import annotations

import itertools
import re


def plain_text(text: str) -> str:
    """The text without Markdown headings, emphasis, bullets, quote marks, rules, emoji and trailing blanks.

    An answer of nothing else, such as a single emoji, stays as it is.
    """
    codes = [code.group() for code in _CODE.finditer(text)]
    numbers = itertools.count()
    plain = _CODE.sub(lambda _: f"\0{next(numbers)}\0", text)  # a message holds no NUL
    for pattern, kept in _STYLE:
        plain = pattern.sub(kept, plain)
    return re.sub(r"\0(\d+)\0", lambda place: codes[int(place[1])], plain.strip()) or text.strip()


def _emphasis(mark: str) -> re.Pattern[str]:
    """Text between two marks, if neither can be an operator (2**3, a*b) or part of a name (__init__ in prose is not).

    Chinese sets no blanks around emphasis, so only Latin letters and figures count as neighbours.
    """
    sign, quoted = mark[0], re.escape(mark)
    inside = rf"(?=[^\s{sign}])([^\n]*?[^\s{sign}])"
    return re.compile(rf"(?<![A-Za-z0-9)\]{sign}]){quoted}{inside}{quoted}(?![A-Za-z0-9{sign}])")


_CODE = re.compile(r"^[ \t]*(?P<fence>```+|~~~+)[\s\S]*?(?:^[ \t]*(?P=fence)|\Z)|`[^`\n]+`", re.MULTILINE)
_EMOJI = "[\U0001f000-\U0001faff\u2600-\u27bf\u2b05-\u2b55\ufe0f\u200d\U000e0020-\U000e007f]"

_STYLE = [
    (re.compile(r"^ {0,3}#{1,6}[ \t]+(.*?)[ \t]*#*[ \t]*$", re.MULTILINE), r"\1"),
    (re.compile(r"^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$", re.MULTILINE), ""),
    (re.compile(r"^[ \t\u3000]*(?:>[ \t]?)+", re.MULTILINE), ""),
    (re.compile(r"^[ \t\u3000]*(?:[-*+][ \t]+|[•‣◦▪●○■□◆◇–·・][ \t\u3000]*)", re.MULTILINE), ""),
    *((_emphasis(mark), r"\1") for mark in ("***", "**", "*", "___", "__", "_")),
    (re.compile(rf"[ ]?(?:[0-9#*]\ufe0f?\u20e3|{_EMOJI})+"), ""),
    (re.compile(r"[ \t\r\u3000]+$", re.MULTILINE), ""),
    (re.compile(r"\n{3,}"), "\n\n"),
]
"""(What is formatting, what of it is kept)."""
