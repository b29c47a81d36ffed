"""Local teacher: a model in this process that answers many calls at once.

Calls may come from any event loop. One thread decodes off the loop; when answers are finished, waiting ones take their
places in the batch, and what many prompts begin with is encoded once. Every answer has random numbers of its own, so in
float32 it does not depend on which others are in the batch (in bfloat16 rounding can tip it).

Why not transformers' continuous batching (5.23): it has one seed for all requests and draws with the global generator,
so an answer depends on its neighbours, and greedy and sampled requests cannot share a manager. It runs on a CPU, but
wrote 115 tokens/s where this wrote 211 (batch 16) to 276 (batch 32): SmolLM2-135M, bfloat16, two cores.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from align.data.rows.pair import Message, as_dicts
from align.errors import AnswerError, ConfigError
from align.models.decoding.batch import DecodeBatch, Row
from align.models.decoding.thread import DecodeStats, DecodeThread
from align.models.identity import fingerprints
from align.models.load import context_length, load_model, load_tokenizer
from align.models.resolve import resolve
from align.models.scoring import render_prompt
from align.teachers.base import Completion, Sampling
from align.teachers.reasoning import OPEN, split_reasoning
from align.text.shorten import shorten

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LocalTeacher:
    """A model in this process. It is loaded at the first call; `aclose` frees it."""

    def __init__(self, model: str, dtype: str = "bfloat16", batch_size: int = 32, device: str | None = None) -> None:
        """`model` as `align.models.resolve` takes it; `dtype` and `device` as `align.models.load.load_model` does.

        Raises:
            ConfigError: nothing stands under this name.
        """
        self.name = f"local:{model}"
        self._dtype = dtype
        self._model = resolved = resolve(model)
        self._thread = DecodeThread(
            self.name,
            batch_size,
            lambda: _ModelVoice(load_tokenizer(resolved), load_model(resolved, dtype, device)),
        )

    @property
    def stats(self) -> DecodeStats:
        """Tokens, steps, fill and seconds so far."""
        return self._thread.stats

    @property
    def version(self) -> str:
        """Tells models of one name apart: what their files hold, and the arithmetic. Reading a large one takes long."""
        hashes = [sha256 for sha256 in fingerprints(self._model).values() if sha256]
        return " ".join([self._dtype, *(name[:12] for name in hashes if not name.startswith("hub:"))])

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Draw `n` completions; the same call draws the same ones again.

        Raises:
            AnswerError: prompt and `max_tokens` together are longer than the model's context; other calls go on.
            RuntimeError: the teacher was closed.
        """
        requests = [_Request(tuple(messages), sampling, index) for index in range(n)]
        self._thread.submit(requests)
        return list(await asyncio.gather(*(asyncio.wrap_future(request.future) for request in requests)))

    async def aclose(self) -> None:
        """End the thread and free the model. Calls still running fail with RuntimeError."""
        await asyncio.to_thread(self._thread.close)


@dataclass(eq=False)
class _Request:
    """One answer that somebody waits for."""

    messages: Sequence[Message]
    sampling: Sampling
    index: int
    """Which of several answers to the same messages."""
    future: Future[Completion] = field(default_factory=Future)


class _ModelVoice:
    """A loaded model and its tokenizer: from messages to a row of the batch, and from a finished row to text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
        _refuse_other_memories(model)
        self.batch = DecodeBatch(model, _end_ids(tokenizer, model))
        self._tokenizer = tokenizer
        self._context = context_length(model)

    def begin(self, request: _Request) -> Row:
        """Raises AnswerError if the prompt is all but empty or the request does not fit into the model's context."""
        sampling = request.sampling
        prompt = render_prompt(self._tokenizer, as_dicts(request.messages))
        prompt_ids = list(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])
        if len(prompt_ids) < 2:
            raise AnswerError("prompt_too_short", f"prompt {prompt!r}: must have 2 tokens, but has {len(prompt_ids)}")
        if self._context is not None and len(prompt_ids) + sampling.max_tokens > self._context:
            raise AnswerError(
                "prompt_too_long",
                f"prompt {shorten(prompt, 80)!r}: prompt and max_tokens must fit into the model's context of "
                f"{self._context} tokens, but are {len(prompt_ids)} + {sampling.max_tokens}; shorten the prompt or "
                "lower max_tokens",
            )
        return Row(
            prompt_ids=prompt_ids,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=_seed(request),
            future=request.future,
            thinks_at_once=prompt.rstrip().endswith(OPEN),
        )

    def finish(self, row: Row) -> Completion:
        """The text without its end token, thoughts apart."""
        tokens = row.tokens[:-1] if row.has_ended else row.tokens
        written = str(self._tokenizer.decode(tokens, skip_special_tokens=True))
        text, reasoning = split_reasoning(written, is_open=row.thinks_at_once)
        return Completion(
            text=text,
            finish_reason="stop" if row.has_ended else "length",
            prompt_tokens=len(row.prompt_ids),
            completion_tokens=len(row.tokens),
            reasoning=reasoning,
        )


def _refuse_other_memories(model: PreTrainedModel) -> None:
    """Rows are joined by their keys and values; a model that remembers in another way would be joined wrongly."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if others := sorted(kinds - {"full_attention", "sliding_attention"}):
        raise ConfigError(
            f"{model.name_or_path}: every layer must be attention, but some are {others}; use an endpoint"
        )


def _end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> frozenset[int]:
    """Chat models often end a turn with another token than the tokenizer's own end token; both count."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    found = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*found, tokenizer.eos_token_id] if token is not None)


def _seed(request: _Request) -> int:
    """The same for the same messages, sampling and index, on every machine."""
    key = [as_dicts(request.messages), asdict(request.sampling), request.index]
    text = json.dumps(key, ensure_ascii=False, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
