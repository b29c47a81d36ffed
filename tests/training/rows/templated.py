"""Tokenizers with the chat templates of eleven models.

The templates in `templates/` are our own reconstructions of what those models ship, without their tools; where TRL
carries a copy of the original, `test_encoding.py` compares both. The tokenizers beneath are made here, either of one
token a byte or with merges, since no model's own can be fetched in a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AddedToken, PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "templates"

TEXT = (
    "You are a helpful assistant. The assistant said hello, how are you?\n\nThe user asked, and the model thinks.\n\n\n"
    "  Python:\n    def double(x):\n        return 2 * x\n春风又绿江南岸，明月何时照我还？ user model system\n"
)


@dataclass(frozen=True)
class Template:
    """What a model's tokenizer adds to its vocabulary."""

    bos: str | None
    eos: str
    special: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Added tokens that are not special ones."""
    ends: tuple[str, ...] = ()
    """Where the model's generation config stops, besides `eos`."""
    trl: str | None = None
    """Name of the original in `trl/chat_templates`."""
    has_system: bool = True
    strips_after: bool = False
    """Whether its special tokens take the white space behind them."""


_CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_THINK = ("<think>", "</think>")

TEMPLATES = {
    "chatml": Template(None, "<|im_end|>", _CHATML),
    "smollm2": Template("<|im_start|>", "<|im_end|>", _CHATML),
    "qwen2_5": Template(None, "<|im_end|>", _CHATML, ends=("<|endoftext|>",), trl="qwen2_5"),
    "qwen3": Template(None, "<|im_end|>", _CHATML, _THINK, ends=("<|endoftext|>",), trl="qwen3"),
    "llama3": Template(
        "<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"), trl="llama3"
    ),
    "mistral": Template("<s>", "</s>", ("[INST]", "[/INST]")),
    "gemma": Template(
        "<bos>",
        "<eos>",
        ("<start_of_turn>", "<end_of_turn>"),
        ends=("<end_of_turn>",),
        trl="gemma",
        has_system=False,
    ),
    "phi3": Template(
        "<s>",
        "<|endoftext|>",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        ends=("<|end|>", "<|assistant|>"),
        trl="phi3",
        strips_after=True,
    ),
    "deepseek_r1": Template(
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        words=("<｜User｜>", "<｜Assistant｜>", *_THINK),
        trl="deepseek_r1_distill",
    ),
    "deepseek_r1_first": Template(
        "<｜begin▁of▁sentence｜>",
        "<｜end▁of▁sentence｜>",
        words=("<｜User｜>", "<｜Assistant｜>", *_THINK),
    ),
    "glm4_5": Template(
        None,
        "<|endoftext|>",
        ("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        _THINK,
        ends=("<|user|>", "<|observation|>"),
        trl="glm4moe",
    ),
}


def templated_tokenizer(name: str, with_merges: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer with the special tokens and the chat template of a model."""
    template = TEMPLATES[name]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_trained() if with_merges else _bytes(),
        bos_token=template.bos,
        eos_token=template.eos,
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
    special = [
        AddedToken(one, rstrip=template.strips_after, normalized=False, special=True) for one in template.special
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens([AddedToken(one, normalized=False, special=False) for one in template.words])
    tokenizer.chat_template = (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")
    return tokenizer


def end_ids(name: str, tokenizer: Any) -> list[int]:
    """What the model's generation config adds to the tokenizer's end of sequence."""
    return tokenizer.convert_tokens_to_ids(list(TEMPLATES[name].ends))


def _bytes() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def _trained() -> Any:
    """With merges across words and line breaks, so that a cut in a wrong place shows in the ids."""
    from tokenizers import trainers

    made = _bytes()
    alphabet = made.pre_tokenizer.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator([TEXT] * 4, trainer)
    return made
