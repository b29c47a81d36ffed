"""Tree forward: score the completions of packed groups, each prompt encoded once.

`score_trees` prepares a model once; from then on it takes a plan beside what it took before, through peft and a
DeepSpeed engine too, and `completion_logps` calls it. Only positions that predict a completion's token reach the LM
head.
"""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from trl.trainer.utils import FusedCausalLMOutput

from align.errors import ConfigError
from align.models.facts import attention_shape, unwrapped
from align.tree.attention import Route, best_route, use_tree_attention
from align.tree.head import score_positions
from align.tree.layout import TreePlan
from align.tree.support import supports


def score_trees(model: Any, temperature: float = 1.0, vocabulary_chunk: int | None = 32_768) -> None:
    """Let a model take plans. Without one it computes what it did before, bit for bit.

    Args:
        model: a causal language model, or a peft model around one; wrap it before DeepSpeed does. It may have been
            given TRL's fused LM head.
        temperature: what logits are divided by.
        vocabulary_chunk: columns of the logits that exist at once; None: all, faster where they fit.

    Raises:
        ConfigError: the tree does not fit the model (`align.tree.support`).
    """
    base = unwrapped(model)
    reason = why_no_tree(model)
    if reason is not None:
        raise ConfigError(f"forward: must be padded or auto for this model, but is tree: {reason}.")
    use_tree_attention(base)
    inner = base.forward

    @functools.wraps(type(base).forward)  # `generate` and the trainer read its signature
    def forward(
        self: Any,
        *args: Any,
        tree_plan: TreePlan | None = None,
        tree_route: Route | None = None,
        tree_outputs: tuple[str, ...] = ("log_probs",),
        **kwargs: Any,
    ) -> Any:
        if tree_plan is None:
            return inner(*args, **kwargs)
        assert not args, "a plan comes with keyword arguments"
        fields = score_positions(
            _hidden_states(self, tree_plan, tree_route or _route(self), kwargs),
            tree_plan.labels_M,
            self.get_output_embeddings(),
            tree_outputs,
            temperature,
            vocabulary_chunk,
        )
        return FusedCausalLMOutput(loss=-fields["log_probs"].mean(), **fields)

    base.forward = types.MethodType(forward, base)


def why_no_tree(model: Any) -> str | None:
    """Why a loaded model cannot take plans, or None."""
    return supports(unwrapped(model).config) or _unfit_adapter(model)


def tree_forward(
    model: Any, plan: TreePlan, route: Route | None = None, outputs: tuple[str, ...] = ("log_probs",)
) -> FusedCausalLMOutput:
    """Fields of shape [M], in the order of the plan's labels.

    Args:
        model: one that was given to `score_trees`, or a wrapper of it.
        plan: on the model's device.
        route: None takes the fastest for the model's device and type.
        outputs: the fields wanted of each completion token, as TRL names them; `log_probs` always is.
    """
    # transformers takes a mask of four dimensions as it is; for any other it would build one of [T, T].
    unread_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=plan.input_ids_1_T.device)
    return model(
        input_ids=plan.input_ids_1_T,
        position_ids=plan.position_ids_1_T,
        attention_mask=unread_mask,
        use_cache=False,
        tree_plan=plan,
        tree_route=route,
        tree_outputs=outputs,
    )


def completion_logps(model: Any, plan: TreePlan, route: Route | None = None) -> torch.Tensor:
    """log p of each completion token given its own prompt and what stands before it: [M]; `plan.sums` adds them up.

    Args: as for `tree_forward`.
    """
    logps_M = tree_forward(model, plan, route).log_probs
    assert logps_M is not None  # always computed
    return torch.as_tensor(logps_M)


def _hidden_states(model: Any, plan: TreePlan, route: Route, inputs: dict[str, Any]) -> torch.Tensor:
    """What the LM head reads at each scored position: [M, hidden size]."""
    given = {name: value for name, value in inputs.items() if value is not None}  # peft names all that it knows
    output = model.base_model(**{**given, "use_cache": False, "return_dict": True}, tree_plan=plan, tree_route=route)
    return torch.as_tensor(output.last_hidden_state)[0].index_select(0, plan.gather_M)


def _unfit_adapter(model: Any) -> str | None:
    for adapter in getattr(model, "peft_config", {}).values():
        if adapter.is_prompt_learning:
            return f"its adapter ({adapter.peft_type}) puts learned tokens before each row"
    return None


def _route(model: Any) -> Route:
    device = model.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
    return best_route(model.device, dtype, attention_shape(model.config).head_size)
