"""Presets: what is peculiar to a provider, each fact with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Preset:
    """How one provider wants to be asked."""

    base_url: str | None
    """None: the user names it."""
    api_key_env: str | None = None
    """Environment variable that holds the key; None: no key is needed."""
    max_tokens_name: str = "max_tokens"
    """What the limit on completion tokens is called."""
    takes_seed: bool = False
    """Whether a seed is sent; where it is not, samples of one prompt differ by chance alone."""
    json_mode: Literal["json_schema", "json_object"] = "json_object"
    """The strictest form of JSON output that it takes."""
    body: Mapping[str, Any] = field(default_factory=dict)
    """Sent with every call: what would otherwise be the provider's own default."""
    thinking: Mapping[bool, Mapping[str, Any]] = field(default_factory=dict)
    """What switches thinking on and off, as far as it can be switched."""
    thinks_by_default: bool | None = None
    """The switch to send when the user says nothing; None sends none."""
    is_free: bool = False
    """Whether calls cost nothing, so that a budget needs no price."""


PRESETS: dict[str, Preset] = {
    # https://api-docs.deepseek.com/api/create-chat-completion has no seed. json_schema gives HTTP 400; json_object
    # wants the word JSON in the prompt and can come back blank: https://api-docs.deepseek.com/guides/json_mode
    # Thinking is on unless switched off, and ignores the temperature without an error:
    # https://api-docs.deepseek.com/guides/thinking_mode
    "deepseek": Preset(
        base_url="https://api.deepseek.com",
        api_key_env="DEEPSEEK_API_KEY",
        thinking={True: {"thinking": {"type": "enabled"}}, False: {"thinking": {"type": "disabled"}}},
        thinks_by_default=False,
    ),
    # https://www.alibabacloud.com/help/en/model-studio/compatibility-of-openai-with-dashscope (base URL; other regions:
    # base_url). Thinking needs streaming for most models, and open models refuse plain calls unless it is switched off:
    # https://www.alibabacloud.com/help/en/model-studio/deep-thinking
    "qwen": Preset(
        base_url="https://dashscope.aliyuncs.com/compatible-mode/v1",
        api_key_env="DASHSCOPE_API_KEY",
        takes_seed=True,
        thinking={False: {"enable_thinking": False}},
        thinks_by_default=False,
    ),
    # https://docs.siliconflow.cn/cn/api-reference/chat-completions/chat-completions : enable_thinking only for some
    # models, no seed, and max_tokens does not bound the thoughts, thinking_budget does:
    # https://docs.siliconflow.cn/en/userguide/capabilities/reasoning
    "siliconflow": Preset(
        base_url="https://api.siliconflow.cn/v1",
        api_key_env="SILICONFLOW_API_KEY",
        body={"frequency_penalty": 0.0, "min_p": 0.0},
        thinking={False: {"enable_thinking": False}},
    ),
    # Whatever is not sent comes from the model's generation_config.json, top_k and penalties too:
    # https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
    "vllm": Preset(
        base_url="http://localhost:8000/v1",
        takes_seed=True,
        json_mode="json_schema",
        body={"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0},
        thinking={
            True: {"chat_template_kwargs": {"enable_thinking": True}},
            False: {"chat_template_kwargs": {"enable_thinking": False}},
        },
        is_free=True,
    ),
    # https://docs.ollama.com/api/openai-compatibility lists the fields. num_ctx is not one of them: prompts are cut to
    # the server's context (4,096 tokens unless OLLAMA_CONTEXT_LENGTH is set) with HTTP 200,
    # https://github.com/ollama/ollama/issues/17889
    "ollama": Preset(
        base_url="http://localhost:11434/v1",
        takes_seed=True,
        json_mode="json_schema",
        body={"presence_penalty": 0.0, "frequency_penalty": 0.0},
        thinking={False: {"reasoning_effort": "none"}},
        is_free=True,
    ),
    # max_tokens is deprecated and refused by reasoning models: https://platform.openai.com/docs/api-reference/chat/create
    "openai": Preset(
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        max_tokens_name="max_completion_tokens",
        takes_seed=True,
        json_mode="json_schema",
        body={"presence_penalty": 0.0, "frequency_penalty": 0.0},
    ),
}

ANY = Preset(base_url=None, takes_seed=True, body={"presence_penalty": 0.0, "frequency_penalty": 0.0})
"""An OpenAI-compatible server that is not listed. Without the penalties `transformers serve` applies the one of the
model's generation_config.json, at temperature 0 too."""
