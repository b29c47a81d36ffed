"""Patches of trainers: TRL's and transformers', and what they keep between two steps."""

from __future__ import annotations

from align.patches.patch import Patch

TRAINERS = (
    # TRL's trainer for preferences
    Patch(
        how="overridden",
        what={
            "trl.DPOTrainer._prepare_dataset": "self dataset processing_class args dataset_name",
            "trl.DPOTrainer._precompute_ref_logps": "self dataset name batch_size",
        },
        where=("align.training.step.trainer",),
        why="rows arrive encoded; of a reference there is one value for each completion, kept between runs",
        until="TRL takes rows of token ids with several completions, and reference log-probs as a column",
    ),
    Patch(
        how="overridden",
        what={
            "transformers.Trainer.get_batch_samples": "self epoch_iterator num_batches device",
            "transformers.Trainer.training_step": "self model inputs num_items_in_batch",
            "trl.DPOTrainer.compute_loss": "self model inputs return_outputs num_items_in_batch",
            "transformers.Trainer.floating_point_ops": "self inputs",
            "trl.DPOTrainer.log": "self logs start_time",
        },
        where=("align.training.step.trainer",),
        why="the loss and what is logged are means over all pairs of a step, in several forwards, each prompt once",
        until="never: it is what the path is",
    ),
    Patch(
        how="read",
        what={"trl.DPOTrainer.loss_is_scaled_for_ga": None},
        where=("align.training.step.trainer",),
        why="set, for `compute_loss` divides by the counts of the whole step",
        until="never: it is what the path is",
    ),
    Patch(
        how="replaced",
        what={"trl.DPOConfig.precompute_ref_log_probs": None},
        where=("align.training.step.trainer",),
        why="on the caller's arguments: else a reference is loaded for losses that ask none",
        until="DPOTrainer can be told that there is no reference",
    ),
    Patch(
        how="called",
        what={"accelerate.state.GradientState._set_sync_gradients": "self sync_gradients"},
        where=("align.training.step.trainer",),
        why="gradients are exchanged after the last forward of a step, and there are several in a micro-batch",
        until="accelerate lets the caller say which backward is a step's last",
    ),
    Patch(
        how="called",
        what={
            "trl.models.utils.disable_gradient_checkpointing": "model gradient_checkpointing_kwargs",
            "trl.models.utils.prepare_deepspeed": "model accelerator",
            "trl.trainer.utils.use_adapter": "model adapter_name",
        },
        where=("align.training.step.models",),
        why="the reference is computed as TRL computes it",
        until="TRL exports them, or scores any batch under the reference",
    ),
    # What a trainer keeps between two steps
    Patch(
        how="replaced",
        what={"transformers.Trainer.evaluate": "self eval_dataset ignore_keys metric_key_prefix"},
        where=("align.training.loop.guard",),
        why="an evaluation must not draw from training's random state, and a stop cuts it off",
        until="an evaluation restores the random state, and a callback can end it",
    ),
    Patch(
        how="called",
        what={
            "transformers.Trainer._save_checkpoint": "self model trial",
            "transformers.Trainer._load_rng_state": "self checkpoint",
            "transformers.Trainer._evaluate": "self trial ignore_keys_for_eval skip_scheduler",
            "transformers.Trainer._determine_best_metric": "self metrics trial",
        },
        where=("align.training.loop.guard",),
        why="a stop within an evaluation saves first, and the run that goes on makes up for the evaluation",
        until="a callback can ask for a save during an evaluation, and for an evaluation before the first step",
    ),
    Patch(
        how="replaced",
        what={"transformers.TrainerState.best_model_checkpoint": None},
        where=("align.training.loop.guard",),
        why="an evaluation that was made up for may be the best one; its checkpoint is there already",
        until="a callback can ask for an evaluation before the first step",
    ),
    Patch(
        how="called",
        what={"transformers.Trainer._load_best_model": "self"},
        where=("align.recipes.run.attempt",),
        why="a run whose steps were all done leaves the loop before transformers loads the best checkpoint",
        until="transformers' loop ends by itself when it resumes from the last step",
    ),
    Patch(
        how="replaced",
        what={
            "transformers.Trainer.training_step": "self model inputs num_items_in_batch",
            "transformers.Trainer.data_collator": None,
        },
        where=("align.training.loop.health",),
        why="a loss that is not finite is found in its micro-batch, and its rows are named",
        until="callbacks see the batch and the loss of each micro-batch",
    ),
    Patch(
        how="replaced",
        what={"transformers.Trainer._issue_warnings_after_load": "self load_result"},
        where=("align.training.loop.resume_state",),
        why="tied weights are not in a checkpoint, and every resume warned of them as missing",
        until="transformers knows tied weights there (5.23 does not)",
    ),
    Patch(
        how="read",
        what={
            "transformers.Trainer._tr_loss": None,
            "transformers.Trainer._total_loss_scalar": None,
            "transformers.Trainer._globalstep_last_logged": None,
            "trl.SFTTrainer._metrics": None,
            "trl.DPOTrainer._metrics": None,
            "trl.GRPOTrainer._metrics": None,
            "trl.SFTTrainer._total_train_tokens": None,
            "trl.DPOTrainer._total_train_tokens": None,
            "trl.GRPOTrainer._total_train_tokens": None,
            "transformers.TrainerState.compute_steps": "self args max_steps",
        },
        where=("align.training.loop.resume_state", "align.training.step.trainer"),
        why="what was summed up since the last logged row is saved and put back, so that a resumed run logs the same",
        until="transformers and TRL save it with a checkpoint",
    ),
    Patch(
        how="replaced",
        what={
            "transformers.trainer_pt_utils.LengthGroupedSampler.generator": None,
            "trl.trainer.utils.RepeatSampler.generator": None,
        },
        where=("align.training.loop.resume_state",),
        why="the order of an epoch's rows must follow from the seed and its number alone",
        until="both take an epoch's number (`set_epoch`), as accelerate's sampler does",
    ),
    Patch(
        how="read",
        what={"trl.GRPOTrainer._step": None},
        where=("align.recipes.grpo",),
        why="a run can go on exactly only from where the next completions are sampled",
        until="TRL saves the completions that are not used yet, or says when there are none",
    ),
    Patch(
        how="called",
        what={"transformers.Trainer._prepare_inputs": "self inputs"},
        where=("align.training.proof.same_reference",),
        why="the rows of the proof are put on the device as training puts them",
        until="transformers gives it a public name",
    ),
    Patch(
        how="called",
        what={
            "trl.models.utils.unwrap_model_for_generation": (
                "model accelerator gather_deepspeed3_params generation_kwargs gradient_checkpointing_kwargs"
            ),
            "trl.chat_template_utils.parse_response": "tokenizer ids prefix tools",
        },
        where=("align.training.grpo.greedy",),
        why="held-out answers are decoded and read as TRL does it for sampled ones",
        until="GRPOTrainer can answer prompts greedily",
    ),
    # Trackers and printing
    Patch(
        how="called",
        what={"transformers.Trainer.remove_callback": "self callback"},
        where=("align.recipes.run.attempt", "align.training.trackers.isolate"),
        why="metrics are printed by us, and trackers run in a process of their own",
        until="arguments can leave out PrinterCallback",
    ),
    Patch(
        how="read",
        what={"transformers.integrations.integration_utils.INTEGRATION_TO_CALLBACK": None},
        where=("align.training.trackers.isolate", "align.training.trackers.process"),
        why="the tracker that a name stands for",
        until="transformers exports it",
    ),
    Patch(
        how="replaced",
        what={"transformers.TrainingArguments.report_to": None},
        where=("align.training.trackers.isolate",),
        why="GRPO would write tables into a tracker that this process does not have; secrets in any argument go too",
        until="TRL asks the callbacks whether there is a tracker, and a checkpoint holds no arguments",
    ),
)
