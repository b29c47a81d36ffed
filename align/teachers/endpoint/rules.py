"""Rules: what is done when a call does not simply bring an answer. One table; nothing else decides.

Three questions are answered for everything that can be seen: was it paid for, is it asked again, and does anybody else
have to know (the limiter, the endpoint, the whole run).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from align.teachers.ledger.entry import State


class Then(Enum):
    """What happens next to the call."""

    ANSWER = "the completion is given to the caller"
    TRY_ELSEWHERE = "the endpoint is set aside; asked again, as often as it takes"
    BACK_OFF = "the limiter slows down, by Retry-After where the server says so; asked again, as often as it takes"
    RETRY = "asked again after a pause, at most a few times; then this call fails"
    FAIL = "this call fails with its reason; the others go on"
    STOP_AUTH = "all stops, exit code 4"
    STOP_CONFIG = "all stops, exit code 2"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table."""

    seen: str
    """Slug: the reason in the ledger, and of a dropped row."""
    state: State
    """How the request is booked. `UNKNOWN` is counted as spent at its worst case."""
    then: Then
    meaning: str
    """A sentence for the user."""


_NOT_SENT = (State.REFUSED, Then.TRY_ELSEWHERE)
_LOST = (State.UNKNOWN, Then.RETRY)
_SLOWER = (State.REFUSED, Then.BACK_OFF)
_HOPELESS = (State.FAILED, Then.FAIL)

RULES = {
    rule.seen: rule
    for rule in (
        # Before anything was sent.
        Rule("connection_refused", *_NOT_SENT, "nothing listens there"),
        Rule("dns", *_NOT_SENT, "the host name is not known"),
        Rule("tls", *_NOT_SENT, "no TLS connection can be made; the URL may need http:// instead of https://"),
        Rule("connect_timeout", *_NOT_SENT, "the host does not take connections"),
        # After sending, without a whole reply: it may have been answered and charged.
        Rule("reset", *_LOST, "the connection broke after the request was sent"),
        Rule("timeout", *_LOST, "no whole reply came in time"),
        Rule("truncated_body", *_LOST, "the reply broke off"),
        Rule("gateway", *_LOST, "a gateway on the way gave up on the model (HTTP 502 or 504)"),
        Rule("request_timeout", *_LOST, "the server gave up waiting (HTTP 408)"),
        # The server says no.
        Rule("rate_limited", *_SLOWER, "the server refuses more requests for now (HTTP 429)"),
        Rule("overloaded", *_SLOWER, "the server is overloaded (HTTP 503 or 529)"),
        Rule("server_error", State.REFUSED, Then.RETRY, "the server failed (HTTP 500)"),
        Rule("bad_request", *_HOPELESS, "the server does not take this request (HTTP 400, 413, 422)"),
        Rule("early_bad_request", State.REFUSED, Then.FAIL, "the same, before any request was answered"),
        Rule("no_request_taken", State.REFUSED, Then.STOP_CONFIG, "none of the first requests is taken (HTTP 400…)"),
        Rule("bad_key", State.REFUSED, Then.STOP_AUTH, "the key is missing or wrong (HTTP 401)"),
        Rule("no_balance", State.REFUSED, Then.STOP_AUTH, "the balance is spent (HTTP 402)"),
        Rule("forbidden", State.REFUSED, Then.STOP_AUTH, "the key may not use this model (HTTP 403)"),
        Rule("no_quota", State.REFUSED, Then.STOP_AUTH, "the account's quota is spent (HTTP 429 with its code)"),
        Rule("not_found", State.REFUSED, Then.STOP_CONFIG, "there is no such path or model (HTTP 404, 405)"),
        Rule("redirect", State.REFUSED, Then.STOP_CONFIG, "the URL points elsewhere (HTTP 3xx)"),
        Rule("other_status", State.REFUSED, Then.RETRY, "the server gave a status that it should not"),
        # HTTP 200 with something that is no answer.
        Rule("html", *_LOST, "a web page came back instead of JSON; the base_url may lack /v1"),
        Rule("not_json", *_LOST, "the reply is not JSON"),
        Rule("error_in_reply", *_LOST, "an error came back with HTTP 200"),
        Rule("no_choices", *_LOST, "the reply holds no choice"),
        Rule("no_content", *_LOST, "the reply holds no text"),
        Rule("too_large", *_HOPELESS, "the reply is larger than any answer can be"),
        Rule("interrupted", *_LOST, "the server ran out of resources while it answered"),
        Rule("no_finish_reason", *_LOST, "the reply does not say whether the answer is whole"),
        Rule("prompt_truncated", *_HOPELESS, "the server cut the prompt; raise its context length"),
        # Answers. Only `stop` is a whole one; builders drop the others by their finish reason.
        Rule("stop", State.ANSWERED, Then.ANSWER, "a whole answer"),
        Rule("length", State.ANSWERED, Then.ANSWER, "cut off at max_tokens"),
        Rule("content_filter", State.ANSWERED, Then.ANSWER, "cut off by the provider's filter"),
        Rule("other_finish", State.ANSWERED, Then.ANSWER, "ended for another reason, such as a tool call"),
    )
}

_BY_STATUS = {
    **dict.fromkeys((400, 413, 422), "bad_request"),
    401: "bad_key",
    402: "no_balance",
    403: "forbidden",
    404: "not_found",
    405: "not_found",
    408: "request_timeout",
    429: "rate_limited",
    500: "server_error",
    502: "gateway",
    503: "overloaded",
    504: "gateway",
    529: "overloaded",
}
_BY_FINISH = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content_filter",
    # https://api-docs.deepseek.com/api/create-chat-completion ; vLLM aborts a request that its client has left.
    "insufficient_system_resource": "interrupted",
    "abort": "interrupted",
    "error": "interrupted",
}
_QUOTA = (
    "insufficient_quota",
    "credit_balance_exhausted",
    "spend_limit_exceeded",
    "usage_limit_exceeded",
    "arrearage",
)
"""In the body of a 429 or 400: no money, and waiting does not help. OpenAI:
https://platform.openai.com/docs/guides/error-codes ; DashScope:
https://www.alibabacloud.com/help/en/model-studio/error-code"""


def by_status(status: int, body: str) -> Rule:
    """The rule for a reply that is not HTTP 200."""
    if status in (400, 403, 429) and any(word in body[:4000].lower() for word in _QUOTA):
        return RULES["no_quota"]
    if 300 <= status < 400:
        return RULES["redirect"]
    return RULES[_BY_STATUS.get(status, "gateway" if status >= 520 else "other_status")]


def by_finish(finish_reason: str | None) -> Rule:
    """The rule for a reply with a choice in it."""
    if not finish_reason:
        return RULES["no_finish_reason"]
    return RULES[_BY_FINISH.get(finish_reason, "other_finish")]
