"""Refusals: how answers open that refuse, in English and in Chinese."""

from __future__ import annotations

import re


def refusing_opening(text: str) -> str | None:
    """The first 200 characters of an answer that opens as a refusal, Chinese ones simplified; else None."""
    opening = text.lstrip(" \t\r\n\"'“”‘’「『*_#>")[:200].translate(_PLAIN)
    return opening if _REFUSAL.match(opening) else None


_SORRY = r"(?:(?:i'm|i am|we're|we are) )?(?:so |very |really |truly |deeply )?(?:sorry|apologies|i apologi[sz]e)"
_CANNOT = r"(?:i|we) ?(?:cannot|can not|can't|won't|will not|(?:am|'m|are|'re) (?:unable|not able) to)"
_OF_ONESELF = "agree|attend|be there|believe|come|find|hear|join|locate|make it|remember|see|stay|stop|wait"
_DO = "(?:comply|fulfill|provide|generate|create|write|produce|share|give|offer|discuss|engage in|answer|respond to)"
_TOPIC = "(?:request|question|information|instructions|guidance|advice|content|details|kind|type|sort|topic)"
_AI = "an? (?:ai|artificial intelligence|(?:large )?language model)(?: (?:language|model|assistant|system|chatbot))*"

_REFUSALS_ENGLISH = (
    # With an apology, any inability but those that people have: "I'm sorry, I can't come tonight".
    rf"{_SORRY}[,.!;:\s—–-]*(?:but |however,? )?(?:as {_AI}[^.\n]{{0,60}}?, )?{_CANNOT}\b(?! (?:{_OF_ONESELF})\b)",
    rf"{_SORRY}[^.\n]{{0,20}}not something (?:that )?i(?:'m able to| can)\b",
    # Without one, only of the request: not "I can't recommend it enough", "I can't help but smile".
    rf"(?:unfortunately,? )?{_CANNOT} (?:help|assist)(?: you)? (?:with|in)\b",
    rf"(?:unfortunately,? )?{_CANNOT} {_DO}(?: you)?(?: with)?(?: \w+)? {_TOPIC}\b",
    rf"(?:(?:{_SORRY}|unfortunately)[,.! ]*(?:but )?)?as {_AI}(?:,| i\b| (?:created|developed|made|trained) by\b)",
    rf"i(?:'m| am) (?:just |only |merely )?{_AI}\b[^.!?\n]{{0,80}}\b(?:can't|cannot|unable|not able|don't have)\b",
)

_SORRY_ZH = "(?:[您你]好[，,！! ]*)?我?(?:真的|非常|很|十分|实在|深表)*(?:抱歉|对不起|遗憾|不好意思|歉意)[，,。！!… ]*"
_OF_ONESELF_ZH = "参加|出席|同意|理解|接受|忘|相信|赶|陪|原谅|见|前往"
_DO_ZH = "(?:提供|回答|协助|帮[助你您忙]|满足|生成|讨论|参与[这此]|创作|给[到出]|执行)"
_AI_ZH = "(?:人工智[能慧]|ai|大?型?语言模型|大模型)"

_REFUSALS_CHINESE = (
    rf"{_SORRY_ZH}(?:但是?|不过)?[，, ]*(?:作为[^，,。\n]{{1,20}}[，,] ?)?[^，,。\n]{{0,8}}?无法(?!{_OF_ONESELF_ZH})",
    rf"{_SORRY_ZH}[^。\n]{{0,12}}?(?:不能|不便|没办?法|拒绝).{{0,4}}?{_DO_ZH}",
    rf"作为(?:一[个名位款])?{_AI_ZH}(?:\s*(?:ai|语言|大?模型|助手|程序|系统|机器人))*\s*(?:[，,]|我)",
    rf"(?:[您你]好[，,！! ]*)?(?:[这该]个?问题)?我(?:暂时|目前)?(?:无法|不能)为?[您你]?{_DO_ZH}(?![他她它])",
    rf"我(?:只)?是(?:一[个名款])?{_AI_ZH}[^。！？\n]{{0,30}}(?:无法|不能|没有)",
)

_REFUSAL = re.compile("|".join((*_REFUSALS_ENGLISH, *_REFUSALS_CHINESE)), re.IGNORECASE)
_PLAIN = str.maketrans(
    "’無沒辦對遺實為個協幫滿討論參與這創給執過問題語統機該暫時絕見趕諒",
    "'无没办对遗实为个协帮满讨论参与这创给执过问题语统机该暂时绝见赶谅",
)
"""Traditional to simplified characters, as far as the refusals need it."""
