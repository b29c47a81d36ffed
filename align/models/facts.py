"""Model facts: the causal language model inside its wrappers, and the sizes of its attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AttentionShape:
    """Sizes of one attention layer."""

    heads: int
    """Of the queries."""
    key_heads: int
    """Of keys and values."""
    head_size: int
    hidden_size: int


def attention_shape(config: Any) -> AttentionShape:
    """Read it from transformers' config of a causal language model; of one that reads images too, the text part's."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    return AttentionShape(
        heads,
        getattr(text, "num_key_value_heads", None) or heads,
        getattr(text, "head_dim", None) or text.hidden_size // heads,
        text.hidden_size,
    )


def unwrapped(model: Any) -> Any:
    """The model of transformers inside a DeepSpeed engine and a peft model, or the model itself."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model
