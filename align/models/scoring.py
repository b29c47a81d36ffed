"""Scoring: how likely a loaded model finds a text. All figures are in nats, in float32 from the model's logits.

Rows are padded on the right and no attention mask is passed: attention is causal, so no token sees the padding, and
the fast kernels stay available.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from align.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

Chat = list[dict[str, str]]
"""Messages in the form that chat templates take."""

CHUNK_TOKENS = 512
"""Tokens, padding included, that `cross_logps` encodes in one forward; 256 is 6 % and 1,024 is 4 % slower on a CPU."""


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: Chat) -> str:
    """The messages as the model sees them, up to where its answer begins.

    Raises:
        ConfigError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ConfigError(f"{tokenizer.name_or_path}: must have a chat template, but has none; take an instruct model")
    return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))


def prompt_token_ids(tokenizer: PreTrainedTokenizerBase, messages: Chat) -> list[int]:
    """Token ids of `render_prompt`; the template has put in the special tokens, so none is added."""
    return list(tokenizer(render_prompt(tokenizer, messages), add_special_tokens=False)["input_ids"])


def completion_token_ids(tokenizer: PreTrainedTokenizerBase, text: str, max_tokens: int | None = None) -> list[int]:
    """Token ids of an answer and its end token, cut to `max_tokens` (None: whole)."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token_id is not None:
        ids.append(tokenizer.eos_token_id)
    return ids[:max_tokens]


def completion_logps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Chat],
    completions: Sequence[str],
    batch_size: int = 16,
    max_tokens: int | None = None,
) -> list[tuple[float, int]]:
    """For each row, log p(completion | prompt) summed over its tokens, and how many tokens those are.

    The end token counts as one of them, unless `max_tokens` cut it off. Rows come back in the order given.
    """
    prompt_ids = [prompt_token_ids(tokenizer, prompt) for prompt in prompts]
    completion_ids = [completion_token_ids(tokenizer, text, max_tokens) for text in completions]
    rows = list(zip(prompt_ids, completion_ids, strict=True))
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]) + len(rows[index][1]))
    found: dict[int, float] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        found |= zip(batch, _score_rows(model, [rows[index] for index in batch]), strict=True)
    return [(found[index], len(completion)) for index, (_, completion) in enumerate(rows)]


def cross_logps(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Chat],
    completions: Sequence[str],
    wanted: Sequence[tuple[int, int]],
    max_tokens: int = 40,
) -> dict[tuple[int, int], float]:
    """log p(completion c | prompt p), as `completion_logps` counts it, for the wanted index pairs (p, c).

    Each prompt is encoded once: its keys and values are shared by all its completions.
    """
    completion_ids = [completion_token_ids(tokenizer, text, max_tokens) for text in completions]
    by_prompt: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for pair in dict.fromkeys(wanted):
        by_prompt.setdefault(tuple(prompt_token_ids(tokenizer, prompts[pair[0]])), []).append(pair)
    found: dict[tuple[int, int], float] = {}
    for prompt_ids, pairs in by_prompt.items():
        prefix = _encode_prefix(model, prompt_ids[:-1])
        for chunk in _chunks([(pair, completion_ids[pair[1]]) for pair in pairs]):
            rows = [(prompt_ids[-1:], ids) for _, ids in chunk]
            found |= zip((pair for pair, _ in chunk), _score_rows(model, rows, prefix), strict=True)
    return found


def text_nll(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, window: int = 512) -> float:
    """Mean nats per token of a plain text, without a chat template.

    The text is cut into windows of `window` predictions; every token but the first is predicted once, from what
    stands before it in its window.

    Raises:
        DataError: the text has fewer than two tokens.
    """
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if len(ids) < 2:
        raise DataError(f"text {text!r}: must have at least 2 tokens to be scored, but has {len(ids)}")
    starts = range(0, len(ids) - 1, window)
    total = sum(
        _score_rows(model, [(ids[start : start + 1], ids[start + 1 : start + 1 + window])])[0] for start in starts
    )
    return -total / (len(ids) - 1)


def _score_rows(
    model: PreTrainedModel,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    prefix: Sequence[tuple[Tensor, Tensor]] = (),
) -> list[float]:
    """Summed log-prob of the second part of each row after its first part, all after one common `prefix`."""
    import torch

    inputs = [[*context, *target][:-1] for context, target in rows]
    width = max(len(ids) for ids in inputs)
    ids_B_T = torch.tensor([ids + ids[-1:] * (width - len(ids)) for ids in inputs], device=model.device)
    # The head is the widest product of a small model: only positions from which some row is scored pass through it.
    first = min(len(context) for context, _ in rows) - 1
    with torch.inference_mode():
        kept = torch.arange(first, width, device=model.device)
        cache = _expand(prefix, len(rows)) if prefix else None
        logits_B_K_V = model(
            input_ids=ids_B_T, past_key_values=cache, use_cache=cache is not None, logits_to_keep=kept
        ).logits
        return [
            _sum_logps(logits_K_V[len(context) - 1 - first :], target)
            for logits_K_V, (context, target) in zip(logits_B_K_V, rows, strict=True)
        ]


def _sum_logps(logits_K_V: Tensor, target: Sequence[int]) -> float:
    """Row by row, since a float32 copy of a whole batch of logits would not fit the processor's cache."""
    import torch

    logits_T_V = logits_K_V[: len(target)].float()
    target_T = torch.tensor(target, dtype=torch.long, device=logits_K_V.device)
    chosen_T = logits_T_V.gather(1, target_T[:, None])[:, 0]
    return float((chosen_T - logits_T_V.logsumexp(1)).sum())


def _encode_prefix(model: PreTrainedModel, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of each layer, [1, heads, T, head size]; empty for no ids."""
    import torch
    from transformers import DynamicCache

    if not ids:
        return []
    cache = DynamicCache()
    with torch.inference_mode():
        model(input_ids=torch.tensor([ids], device=model.device), past_key_values=cache, logits_to_keep=1)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _expand(prefix: Sequence[tuple[Tensor, Tensor]], num_rows: int) -> Cache:
    from transformers import DynamicCache

    cache = DynamicCache()
    for index, (keys, values) in enumerate(prefix):
        cache.update(keys.expand(num_rows, -1, -1, -1), values.expand(num_rows, -1, -1, -1), index)
    return cache


def _chunks(
    scored: list[tuple[tuple[int, int], list[int]]],
) -> Iterable[list[tuple[tuple[int, int], list[int]]]]:
    """Completions of about equal length together, at most `CHUNK_TOKENS` with their padding."""
    chunk: list[tuple[tuple[int, int], list[int]]] = []
    for item in sorted(scored, key=lambda item: len(item[1])):
        if chunk and (len(chunk) + 1) * len(item[1]) > CHUNK_TOKENS:
            yield chunk
            chunk = []
        chunk.append(item)
    if chunk:
        yield chunk
