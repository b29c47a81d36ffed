"""Redaction: keys, tokens and passwords taken out of settings and text before they are written or sent."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "<redacted>"

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:apikey|authtoken|accesstoken|secrets?|password|passwd|passphrase|authorization|credentials?|cookie"
    r"|(?:api|access|secret|private|encryption|signing|subscription|account|license|ssh)_key"
    r"|(?:hub|hf|huggingface|auth|access|refresh|api|bearer|session|secret|bot|private|user|git(?:hub|lab)|wandb)_token"
    r")$|^token$"
)
"""`hub_token` and `api_key` are secret; `eos_token`, `max_tokens` and `sort_key` are not."""
_ENVIRONMENT = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD)$")
_SHORTEST = 8
"""Characters below which the value of an environment variable is not looked for: it would match ordinary text."""

_KEYS = re.compile(
    r"\b(?:"
    r"sk-(?=[\w-]*\d)[\w-]{16,}"  # OpenAI, DeepSeek, Anthropic; a digit tells a key from `sk-learn-…`
    r"|hf_[A-Za-z0-9]{16,}"
    r"|wandb_v\d_\w{16,}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,}|glpat-[\w-]{16,}"
    r"|ey[A-Za-z0-9_-]{15,}\.ey[A-Za-z0-9_-]{15,}\.[\w-]+"  # JSON web token
    r")"
)
_BEARER = re.compile(r"\b(bearer\s+)(?=\S*\d)[\w.~+/=-]{8,}", re.IGNORECASE)
_USER_IN_URL = re.compile(r"(\w://)[^/\s@]*:[^/\s@]+@")
_KEY_IN_URL = re.compile(r"([?&](?:key|sig|signature|x-amz-signature)=)[^&\s\"']+", re.IGNORECASE)
_QUOTED = r"\"[^\"]*\"|'[^']*'"
_ASSIGNED = re.compile(rf"(?<![\w.-])(?P<name>[\w.-]+)=(?P<value>{_QUOTED}|[^\s&]*[^\s&\"'\])}}])")
_OPTION = re.compile(rf"(?<!\S)--(?P<name>[\w.-]+)\s+(?P<value>{_QUOTED}|[^\s-]\S*)")
_IN_MAPPING = re.compile(rf"[{{,]\s*[\"']?(?P<name>[\w.-]+)[\"']?\s*:\s*(?P<value>{_QUOTED}|[^\s,}}]*[^\s,}}\"'])")


def redact(value: Any) -> Any:
    """The same value with every secret replaced by `<redacted>`: settings, a line of text, anything that JSON can hold.

    A secret is what stands under a name such as `api_key` or `hub_token`, text that looks like a key, and the value of
    every environment variable whose name ends in KEY, TOKEN, SECRET or PASSWORD. Doing it twice changes nothing.
    """
    return _redact(value, _secrets_of_environment())


def redact_command(words: Sequence[str]) -> str:
    """A command line as it can be typed again, without the values of `api_key=…` and `--api-key …`."""
    shown, is_secret = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        if is_secret:
            shown.append(REDACTED)
        elif equals and names_a_secret(name):
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(str(redact(word)))
        is_secret = word.startswith("--") and not equals and names_a_secret(name)
    return shlex.join(shown)


def names_a_secret(name: str) -> bool:
    """Whether what stands under this name is a key, a token or a password; dots and dashes are allowed in it."""
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rsplit(".", 1)[-1])
    return _SECRET_NAME.search(last.lower().replace("-", "_")) is not None


def _redact(value: Any, secrets: Sequence[str], is_secret: bool = False) -> Any:
    if isinstance(value, Mapping):
        return {
            _redact(name, secrets): _redact(item, secrets, is_secret or names_a_secret(str(name)))
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return type(value)(_redact(item, secrets, is_secret) for item in value)
    if is_secret:
        return value if value is None or value == "" or isinstance(value, bool) else REDACTED
    return _redact_text(value, secrets) if isinstance(value, str) else value


def _redact_text(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    text = _KEYS.sub(REDACTED, text)
    text = _BEARER.sub(rf"\g<1>{REDACTED}", text)
    text = _USER_IN_URL.sub(rf"\g<1>{REDACTED}@", text)
    text = _KEY_IN_URL.sub(rf"\g<1>{REDACTED}", text)
    for pattern in (_ASSIGNED, _OPTION, _IN_MAPPING):
        text = pattern.sub(_without_value, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    if not names_a_secret(match["name"]):
        return match[0]
    value = match["value"]
    quote = value[0] if value[0] in "\"'" else ""
    return match[0].removesuffix(value) + quote + REDACTED + quote


def _secrets_of_environment() -> list[str]:
    """Longest first, so that a secret inside another one leaves no rest."""
    found = {value for name, value in os.environ.items() if _ENVIRONMENT.search(name.upper())}
    return sorted((value for value in found if len(value) >= _SHORTEST), key=len, reverse=True)
