"""Patches of the whole process: DeepSpeed, the environment, warnings and progress bars."""

from __future__ import annotations

from align.patches.patch import Patch

PROCESSES = (
    # DeepSpeed
    Patch(
        how="read",
        what={
            "deepspeed.runtime.zero.partition_parameters.Init.ds_id": None,
            "deepspeed.runtime.zero.partition_parameters.Init.ds_numel": None,
            "deepspeed.runtime.zero.partition_parameters.Init.ds_tensor": None,
        },
        where=(
            "align.training.loop.disk",
            "align.training.loop.health",
            "align.training.loop.resume_state",
            "align.training.loop.zero",
            "align.training.proof.moved",
            "align.training.trackers.isolate",
        ),
        why="whether a weight is sharded (ZeRO-3), its size, and this rank's part of it",
        until="DeepSpeed says it with public names",
    ),
    Patch(
        how="read",
        what={
            "deepspeed.DeepSpeedEngine.get_global_grad_norm": "self",
            "deepspeed.DeepSpeedEngine.zero_optimization_stage": "self",
        },
        where=("align.training.loop.health", "align.training.loop.zero"),
        why="asked for by name, since any model may stand where the engine does",
        until="never: both are public, but nothing would say that they are gone",
    ),
    Patch(
        how="set",
        what={
            "torch.serialization.add_safe_globals": "safe_globals",
            "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler": None,
            "deepspeed.runtime.fp16.loss_scaler.LossScaler": None,
            "deepspeed.runtime.zero.config.ZeroStageEnum": None,
            "deepspeed.utils.tensor_fragment.fragment_address": None,
        },
        where=("align.training.loop.zero",),
        why="DeepSpeed's shards load although nothing is unpickled but tensors and these classes",
        until="DeepSpeed loads its checkpoints with `weights_only=True` (0.19 does not)",
    ),
    Patch(
        how="set",
        what={"torch.serialization.TORCH_FORCE_WEIGHTS_ONLY_LOAD": None},
        where=("align.recipes.run.start",),
        why="DeepSpeed unpickles its checkpoints with all that is in them",
        until="DeepSpeed loads its checkpoints with `weights_only=True` (0.19 does not)",
    ),
    Patch(
        how="set",
        what={"deepspeed.ops.__compatible_ops__": None},
        where=("align.training.loop.ranks",),
        why="with gloo every start compiles an all-reduce, and a kill meanwhile leaves a lock that others await",
        until="DeepSpeed compiles it only when asked, or survives a stale lock",
    ),
    Patch(
        how="set",
        what={
            "deepspeed.utils.logger.setLevel": "level",
            "deepspeed.accelerator.real_accelerator.DS_ACCELERATOR": None,
        },
        where=("align.training.loop.ranks", "align.recipes.run.start"),
        why="its memory reports would bury our lines; it warns when it has to find out that there is no accelerator",
        until="DeepSpeed says less at its default level",
    ),
    # The process
    Patch(
        how="set",
        what={"OMP_WAIT_POLICY": None},
        where=("align",),
        why="OpenMP's threads spin while they wait, which on shared cores makes everything slower",
        until="the OpenMP that torch brings waits passively",
    ),
    Patch(
        how="set",
        what={"huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY": None},
        where=("align.recipes.run.start",),
        why="TRL reports every trainer that it builds",
        until="TRL asks first",
    ),
    Patch(
        how="set",
        what={"datasets.disable_progress_bars": "", "transformers.utils.logging.disable_progress_bar": ""},
        where=("align.recipes.run.start", "align.models.load", "align.models.gguf"),
        why="one line a step is enough; downloads keep their bars, and the last two put back what was",
        until="never: this is a choice",
    ),
    Patch(
        how="set",
        what={"warnings.filterwarnings": "action message category module lineno append"},
        where=("align.models.load",),
        why="names that trl 1.16, peft 0.21 and deepspeed 0.19 use are deprecated; only their authors can act on it",
        until="they use the new ones",
    ),
    Patch(
        how="set",
        what={"torch.set_float32_matmul_precision": "precision"},
        where=("align.training.verify.run",),
        why="some images of NVIDIA's set TF32 for every process, and verification needs float32",
        until="never: this is a choice",
    ),
    Patch(
        how="set",
        what={"logging.disable": "level"},
        where=("align.rewards.math_answer",),
        why="in a child process of ours: math-verify prints completions that it cannot read",
        until="math-verify can be told to be silent",
    ),
    Patch(
        how="set",
        what={"langdetect.DetectorFactory.seed": None},
        where=("align.rewards.instructions",),
        why="in a child process of ours: else the language of a short text is drawn anew each time",
        until="langdetect is the same each time by default",
    ),
)
