"""Tree support: every kind of model that a tree would compute wrongly is named."""

from __future__ import annotations

import re

import pytest
import transformers

from align.tree.support import supports
from tests.training import trees

SETTINGS = [
    ("Mistral", {"sliding_window": 64}, "its attention slides over a window of 64 tokens"),
    (
        "Qwen2",
        {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 1},
        "it has layers of sliding_attention",
    ),
    ("Llama", {"attention_dropout": 0.1}, r"it drops attention weights while training \(attention_dropout 0.1\)"),
    ("Llama", {"attn_implementation": "eager"}, "its attention is eager, and the tree builds on sdpa"),
    ("Qwen3Moe", {"output_router_logits": True}, r"its loss has a mixture-of-experts part.*\(output_router_logits\)"),
    (
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}},
        r"its rotation \(dynamic\) depends on the longest row of a batch",
    ),
]
MODELS = {
    "Gemma2": "layers of sliding_attention",
    "Gemma3Text": "layers of sliding_attention",
    "Mamba": "layers of linear_attention",
    "Jamba": "layers of linear_attention",
    "Qwen3Next": "layers of linear_attention",
    "FalconH1": "layers of hybrid",
    "Lfm2": r"state-space or convolution layers \(conv_",
    "GPTNeo": "its positions are not rotary",
    "Bloom": "its positions are not rotary",
    "Granite": r"its logits are altered after the LM head \(logits_scaling",
    "Cohere": r"its logits are altered after the LM head \(logit_scale",
    "Nemotron": "model type nemotron has not been compared with padded rows",
}


@pytest.mark.parametrize(("name", "changes", "reason"), SETTINGS, ids=lambda value: str(value)[:30])
def test_a_setting_that_the_tree_does_not_fit_is_named(name, changes, reason):
    assert supports(trees.config(name)) is None
    assert re.search(reason, supports(trees.config(name, **changes)) or "")


@pytest.mark.parametrize(("name", "reason"), MODELS.items())
def test_a_model_that_the_tree_does_not_fit_is_named(name, reason):
    assert re.search(reason, supports(getattr(transformers, f"{name}Config")()) or "")


@pytest.mark.parametrize("setting", ["attn_logit_softcapping", "final_logit_softcapping"])
def test_soft_capping_is_named(setting):
    config = trees.config("Gemma")
    setattr(config, setting, 30.0)
    assert f"{setting} 30.0" in (supports(config) or "")
