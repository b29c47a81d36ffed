"""Tree support: which models a prefix tree computes exactly, and why not the others.

A tree fits where a token depends on others through full softmax attention alone, and on its place through a rotation
that its own position fixes. What is known to break that is named; a model type that no test has proven is refused too.
"""

from __future__ import annotations

from typing import Any

from align.tree.attention import NAME

PROVEN = (
    "ernie4_5",
    "gemma",
    "glm4",
    "hunyuan_v1_dense",
    "llama",
    "mistral",
    "olmo2",
    "phi3",
    "qwen2",
    "qwen3",
    "qwen3_moe",
    "smollm3",
    "starcoder2",
)
"""Values of `config.model_type` whose loss and gradients the tests compare with padded rows."""

ALTERED_LOGITS = (
    "final_logit_softcapping",
    "logit_scale",
    "output_multiplier",
    "lm_head_multiplier",
    "logits_scaling",
)
"""Config names of models whose logits are not plainly `hidden @ weight.T`; those stay on TRL's route."""
_STATE_SPACE = ("mamba_", "ssm_", "state_size", "conv_", "conv1d_", "linear_", "lru_", "time_step_")
"""Beginnings of the config names that state-space, convolution and linear-attention layers bring."""
_FIXED_ROTATIONS = ("default", "linear", "llama3", "yarn", "proportional")
"""Types of rotation whose frequencies do not depend on how long the rows of a batch are."""
_DROPOUT = ("attention_dropout", "attn_pdrop")


def supports(config: Any) -> str | None:
    """Why the tree does not fit a model, or None; the caller runs padded rows and says why.

    Args:
        config: transformers' config of a causal language model; of one that reads images too, its text part counts.
    """
    text = config.get_text_config()
    return _other_layers(text) or _altered_attention(text) or _positions(text) or _altered_loss(text) or _unproven(text)


def _other_layers(config: Any) -> str | None:
    kinds = sorted(set(getattr(config, "layer_types", None) or []) - {"full_attention"})
    if kinds:
        return f"it has layers of {' and '.join(kinds)}; the tree needs full attention in every layer"
    window = getattr(config, "sliding_window", None)
    if window is not None:
        return f"its attention slides over a window of {window} tokens"
    found = [name for name in config.to_dict() if name.startswith(_STATE_SPACE)]
    if found:
        return f"it has state-space or convolution layers ({found[0]}), which carry one completion into the next"
    return None


def _altered_attention(config: Any) -> str | None:
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return f"it caps attention scores softly (attn_logit_softcapping {config.attn_logit_softcapping})"
    for name in _DROPOUT:
        if getattr(config, name, None):
            return f"it drops attention weights while training ({name} {getattr(config, name)})"
    implementation = config._attn_implementation
    if implementation not in (None, "sdpa", NAME):
        return f"its attention is {implementation}, and the tree builds on sdpa"
    return None


def _positions(config: Any) -> str | None:
    rotation = getattr(config, "rope_parameters", None)
    if not rotation or getattr(config, "alibi", False):
        return "its positions are not rotary"
    parts = rotation.values() if all(isinstance(part, dict) for part in rotation.values()) else [rotation]
    kinds = sorted({part.get("rope_type", "default") for part in parts} - set(_FIXED_ROTATIONS))
    if kinds:
        return f"its rotation ({kinds[0]}) depends on the longest row of a batch"
    return None


def _altered_loss(config: Any) -> str | None:
    for name in ALTERED_LOGITS:
        if getattr(config, name, None) is not None:
            return f"its logits are altered after the LM head ({name} {getattr(config, name)})"
    if getattr(config, "output_router_logits", False):
        return "its loss has a mixture-of-experts part, which would count each prompt once (output_router_logits)"
    return None


def _unproven(config: Any) -> str | None:
    if config.model_type in PROVEN:
        return None
    return f"model type {config.model_type} has not been compared with padded rows (proven: {', '.join(PROVEN)})"
