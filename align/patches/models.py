"""Patches of models: their forward, attention, cache and LM head."""

from __future__ import annotations

from align.patches.patch import Patch

MODELS = (
    Patch(
        how="replaced",
        what={
            "transformers.LlamaForCausalLM.forward": (
                "self input_ids attention_mask position_ids past_key_values inputs_embeds labels use_cache "
                "logits_to_keep **kwargs"
            ),
            "trl.trainer.utils.add_fused_lm_head": "model temperature cast_lm_head_to_fp32 outputs",
            "trl.trainer.utils.FusedCausalLMOutput": (
                "loss log_probs entropy log_sum_sq_probs mean_logits is_top1 label_mask aux_loss"
            ),
        },
        where=("align.training.step.cpu_head",),
        why="on a CPU, TRL's fused head scores every position, more than half of a step; Llama stands for all",
        until="TRL compacts positions on a CPU, as it does where Triton runs",
    ),
    Patch(
        how="replaced",
        what={
            "transformers.LlamaForCausalLM.forward": (
                "self input_ids attention_mask position_ids past_key_values inputs_embeds labels use_cache "
                "logits_to_keep **kwargs"
            ),
            "trl.trainer.utils.FusedCausalLMOutput": (
                "loss log_probs entropy log_sum_sq_probs mean_logits is_top1 label_mask aux_loss"
            ),
        },
        where=("align.training.step.tree_forward",),
        why="a model takes a plan beside what it took before, through peft and DeepSpeed; Llama stands for all",
        until="never: it is what the path is",
    ),
    Patch(
        how="called",
        what={
            "trl.kernels.ChunkedLogProbFunction.forward": (
                "ctx hidden weight bias targets temperature chunk_size final_logit_softcapping logit_scale outputs"
            ),
            "trl.trainer.utils.maybe_gather_lm_head_ctx": "*params",
        },
        where=("align.tree.head",),
        why="the LM head in parts of the vocabulary, with TRL's numbers, at chosen positions",
        until="never: it is what the path is",
    ),
    Patch(
        how="replaced",
        what={"torch.nn.Module.register_forward_pre_hook": "self hook prepend with_kwargs"},
        where=("align.training.step.cpu_head",),
        why="a hook hands a frozen LM head its input in one piece; else torch copies the head for each row",
        until="transformers cuts the prompt's last position out in one piece, or torch 2.13's product does not copy",
    ),
    Patch(
        how="set",
        what={
            "transformers.AttentionInterface.register": "key value",
            "transformers.AttentionMaskInterface.register": "key value",
        },
        where=("align.tree.attention",),
        why="transformers finds the tree's attention, and sdpa's masks for it, by a name",
        until="never: it is what the path is",
    ),
    Patch(
        how="called",
        what={
            "transformers.integrations.sdpa_attention.sdpa_attention_forward": (
                "module query key value attention_mask dropout scaling is_causal position_bias cache **kwargs"
            ),
            "transformers.masking_utils.sdpa_mask": None,
            "transformers.PreTrainedModel.set_attn_implementation": "self attn_implementation allow_all_kernels",
        },
        where=("align.tree.attention",),
        why="without a plan the attention is sdpa with the same arguments",
        until="transformers exports them",
    ),
    Patch(
        how="read",
        what={"transformers.PreTrainedConfig._attn_implementation": None},
        where=("align.tree.attention", "align.tree.support"),
        why="the tree builds on sdpa alone",
        until="transformers gives it a public name",
    ),
    Patch(
        how="overridden",
        what={"transformers.cache_utils.DynamicLayer.update": "self key_states value_states *args **kwargs"},
        where=("align.models.decoding.cache",),
        why="rows join, leave and grow without copying the others",
        until="transformers has a cache with room, whose rows come and go",
    ),
    Patch(
        how="read",
        what={
            "transformers.cache_utils.DynamicLayer.lazy_initialization": "self key_states value_states",
            "transformers.cache_utils.DynamicLayer.keys": None,
            "transformers.cache_utils.DynamicLayer.values": None,
            "transformers.Cache": "layers layer_class_to_replicate offloading offload_only_non_sliding",
        },
        where=("align.models.decoding.cache",),
        why="the same: keys and values are set to windows of larger tensors",
        until="transformers has a cache with room, whose rows come and go",
    ),
    Patch(
        how="replaced",
        what={
            "transformers.quantizers.auto.quantization_config": None,
            "transformers.PreTrainedModel.hf_quantizer": None,
        },
        where=("align.models.gguf",),
        why="of a model read from GGUF: its weights are float32, but it counts as quantised and cannot be saved",
        until="transformers forgets the quantiser once weights are dequantised (5.23 does not)",
    ),
    Patch(
        how="replaced",
        what={"transformers.LlamaModel.layers": None, "torch.Tensor.data": None},
        where=("align.training.verify.model",),
        why="a model that was loaded to be verified is cut to its first layers, and is float32 for a while",
        until="never: nobody else has this model",
    ),
)
