"""ZeRO: DeepSpeed's settings for a stage, and what is really in force.

Source: https://www.deepspeed.ai/docs/config-json/
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from transformers import Trainer


def deepspeed_config(stage: int, offload: str, in_bfloat16: bool) -> dict[str, Any]:
    """DeepSpeed's JSON for a ZeRO stage; sizes are left to transformers (`auto`).

    Args:
        stage: 0 shards nothing, 1 the optimizer state, 2 the gradients too, 3 the weights too.
        offload: `none`; `optimizer` keeps its state in main memory; `all` (stage 3) the weights too.
        in_bfloat16: DeepSpeed then keeps float32 masters of what is trained.
    """
    zero: dict[str, Any] = {"stage": stage, "contiguous_gradients": True, "overlap_comm": False}
    if offload != "none":
        zero["offload_optimizer"] = {"device": "cpu"}
    if offload == "all":
        zero["offload_param"] = {"device": "cpu"}
    if stage == 3:
        zero["stage3_gather_16bit_weights_on_model_save"] = True
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": in_bfloat16},
        "zero_optimization": zero,
        # The same AdamW as without offload; DeepSpeed's own CPU Adam is compiled on first use and rounds differently.
        "zero_force_ds_cpu_optimizer": False,
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**31,
    }


def gathered(parameters: Iterable[Any], writer: int | None = None) -> AbstractContextManager[Any]:
    """Whole weights inside the context, on every rank; what rank `writer` changes in them is kept.

    Nothing to do for parameters that ZeRO-3 has not sharded.
    """
    sharded = [parameter for parameter in parameters if hasattr(parameter, "ds_id")]
    if not sharded:
        return nullcontext()
    import deepspeed

    context: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters(sharded, modifier_rank=writer)
    return context


def stage_in_force(trainer: Trainer) -> int | None:
    """The ZeRO stage of the engine that trains; None without DeepSpeed. Known once training has begun."""
    engine = trainer.model_wrapped
    return int(engine.zero_optimization_stage()) if hasattr(engine, "zero_optimization_stage") else None


def allow_deepspeed_checkpoints() -> None:
    """Let DeepSpeed's shards load although nothing is unpickled but tensors and these classes of its own.

    DeepSpeed 0.19 loads them with `weights_only=False`; `TORCH_FORCE_WEIGHTS_ONLY_LOAD` overrides that.
    """
    import torch
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils.tensor_fragment import fragment_address

    torch.serialization.add_safe_globals([LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address])
