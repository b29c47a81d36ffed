"""Reply: from the bytes of HTTP 200 to an answer, or to the line of the rule table that says what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from align.teachers.endpoint.rules import RULES, Rule, by_finish, by_status
from align.teachers.ledger.entry import Answer
from align.teachers.reasoning import split_reasoning
from align.text.shorten import on_one_line


@dataclass(frozen=True, slots=True)
class Reply:
    """What was seen, and the answer where there is one."""

    rule: Rule
    detail: str = ""
    """What the server said, shortened."""
    answer: Answer | None = None


def read_reply(body: bytes) -> Reply:
    """Blank lines before the JSON, with which DeepSeek holds a connection open, are skipped."""
    text = body.decode(errors="replace").strip()
    try:
        data = json.loads(text)
    except ValueError:
        is_page = text[:200].lower().lstrip("\ufeff").startswith(("<!doctype", "<html", "<head", "<?xml"))
        return Reply(RULES["html" if is_page else "not_json"], _short(text))
    if not isinstance(data, Mapping):
        return Reply(RULES["not_json"], _short(text))
    if data.get("error"):
        return _error_in_reply(data["error"])
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        return Reply(RULES["no_choices"], _short(text))
    return _read_choice(data, choices[0])


def error_message(body: str) -> str:
    """What a server says went wrong, out of the many shapes of error bodies."""
    try:
        data = json.loads(body)
    except ValueError:
        return _short(body)
    error = data.get("error", data) if isinstance(data, Mapping) else data
    if isinstance(error, Mapping):
        said = error.get("message") or error.get("msg") or error.get("detail")  # detail: FastAPI, of any shape
        error = said if isinstance(said, str) else json.dumps(error, ensure_ascii=False)
    return _short(str(error))


def _error_in_reply(error: Any) -> Reply:
    """Some gateways send the status of an error inside a reply of HTTP 200."""
    code = error.get("code") if isinstance(error, Mapping) else None
    message = error_message(json.dumps({"error": error}, ensure_ascii=False))
    if isinstance(code, int) and 400 <= code < 600:
        return Reply(by_status(code, message), message)
    return Reply(RULES["error_in_reply"], message)


def _read_choice(data: Mapping[str, Any], choice: Mapping[str, Any]) -> Reply:
    finish_reason = choice.get("finish_reason")
    rule = by_finish(finish_reason if isinstance(finish_reason, str) else None)
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {}
    text, thoughts = split_reasoning(_text(message.get("content")))
    # reasoning_content: DeepSeek, Qwen, SiliconFlow, older vLLM; reasoning: vLLM, Ollama, OpenRouter.
    thoughts = _text(message.get("reasoning_content")) or _text(message.get("reasoning")) or thoughts
    if not text and rule.seen == "stop":
        rule = RULES["no_content"]
    usage = data.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else usage.get("prompt_cache_hit_tokens")
    answer = Answer(
        text=text,
        reasoning=thoughts.strip(),
        finish_reason=_text(finish_reason),
        model=_text(data.get("model")),
        prompt_tokens=_count(usage.get("prompt_tokens")),
        cached_tokens=_count(cached),
        completion_tokens=_count(usage.get("completion_tokens")),
    )
    return Reply(rule, "", answer)


def _text(value: object) -> str:
    """Half of a surrogate pair, which JSON can hold and UTF-8 cannot, becomes a question mark."""
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    """A number of tokens; servers that do not count send null, 0 or nothing."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _short(text: str) -> str:
    return on_one_line(text, 300)
