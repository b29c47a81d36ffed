"""Encoding: token ids equal TRL's own, and each distinct text reaches the tokenizer once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align.data.rows.pair import Candidate, Demonstration, Group, Message, PreferencePair
from align.errors import DataError
from align.models.load import load_tokenizer
from align.training.rows.encoding import encode
from tests.training.rows.templated import TEMPLATES, templated_tokenizer

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

SOUND = [name for name in TEMPLATES if name != "deepseek_r1"]
QUESTIONS = ["?", "How are you?\n", " 春风又绿江南岸？", "def double(x):\n    return"]
ANSWERS = [
    "yes",
    "no.\n\n",
    "  def double",
    "明月何时照我还",
    "🙂 <b>",
    "\n\nthe user",
    "<think>\nwell\n</think>\n\nyes",
]


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def prompts(name: str) -> list[tuple[Message, ...]]:
    """One turn, three turns, and a system prompt where the template takes one."""
    asked = [(Message("user", text),) for text in QUESTIONS]
    asked += [(*asked[0], *said("<think>\nso\n</think>\n\nnot yet"), Message("user", text)) for text in QUESTIONS]
    if TEMPLATES[name].has_system:
        asked += [(Message("system", "Be brief."), *one) for one in asked]
    return asked


def pairs(name: str) -> list[PreferencePair]:
    return [
        PreferencePair(prompt, said(chosen), said(rejected))
        for prompt in prompts(name)
        for chosen, rejected in zip(ANSWERS, [*ANSWERS[1:], ANSWERS[0]], strict=True)
    ]


@pytest.fixture(scope="module")
def trainers(tiny_model, tmp_path_factory):
    """TRL's DPO and SFT trainers, whose own preparation is what our ids have to equal."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    rows = [pairs("chatml")[0].to_dict()]
    common = {"output_dir": str(tmp_path_factory.mktemp("trl")), "report_to": "none", "use_cpu": True, "bf16": False}
    common |= {"max_length": None, "activation_checkpointing": False}
    tokenizer = load_tokenizer(tiny_model)
    both = Dataset.from_list([{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows])
    one = Dataset.from_list([{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows])
    dpo = DPOTrainer(tiny_model, args=DPOConfig(**common), train_dataset=both, processing_class=tokenizer)
    sft = SFTTrainer(tiny_model, args=SFTConfig(**common), train_dataset=one, processing_class=tokenizer)
    return dpo, sft


def trl_pairs(trainer, rows, tokenizer):
    from datasets import Dataset

    columns = [{name: row.to_dict()[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    prepared = trainer._prepare_dataset(Dataset.from_list(columns), tokenizer, trainer.args, "train")
    return [(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in prepared]


def ids(row):
    return (list(row.prompt_ids), *map(list, row.completions_ids))


@pytest.mark.parametrize("with_merges", [False, True], ids=["bytes", "merges"])
@pytest.mark.parametrize("name", SOUND)
def test_ids_of_pairs_equal_trls(trainers, name, with_merges):
    tokenizer, rows = templated_tokenizer(name, with_merges), pairs(name)
    assert [ids(row) for row in encode(rows, tokenizer)] == trl_pairs(trainers[0], rows, tokenizer)


@pytest.mark.parametrize("name", SOUND)
def test_ids_and_labels_of_demonstrations_equal_trls(trainers, name):
    from datasets import Dataset

    tokenizer = templated_tokenizer(name, with_merges=True)
    rows = [Demonstration(pair.prompt, pair.chosen) for pair in pairs(name)]
    columns = [{key: row.to_dict()[key] for key in ("prompt", "completion")} for row in rows]
    trainer = trainers[1]
    prepared = trainer._prepare_dataset(Dataset.from_list(columns), tokenizer, trainer.args, False, None, "train")
    for row, theirs in zip(encode(rows, tokenizer), prepared, strict=True):
        prompt, completion = ids(row)
        assert prompt + completion == theirs["input_ids"]
        assert [-100] * len(prompt) + completion == theirs["labels"]


def test_the_fixtures_with_merges_do_merge_across_the_end_of_a_prompt():
    row = encode([PreferencePair(prompts("chatml")[0], said("\n\nthe user"), said("yes"))], merging())[0]
    assert merging().decode(row.cut_ids) == "\n"


def merging():
    return templated_tokenizer("chatml", with_merges=True)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if TEMPLATES[name].trl])
def test_a_template_writes_what_the_original_in_trl_writes(name):
    import trl

    tokenizer = templated_tokenizer(name)
    original = Path(trl.__file__).parent / "chat_templates" / f"{TEMPLATES[name].trl}.jinja"
    chats = [[message.to_dict() for message in (*pair.prompt, *pair.chosen)] for pair in pairs(name)]
    for chat in chats:
        for messages, generates in ((chat, False), (chat[:-1], True)):
            ours = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=generates)
            theirs = tokenizer.apply_chat_template(
                messages,
                chat_template=original.read_text(encoding="utf-8"),
                tokenize=False,
                add_generation_prompt=generates,
            )
            assert ours == theirs


def test_a_template_that_opens_a_thought_is_an_error_that_shows_the_cut_tokens():
    tokenizer = templated_tokenizer("deepseek_r1")
    with pytest.raises(DataError, match=r"x.jsonl:7: the chat template ends the prompt alone with '.*⟦<think>\\n⟧'"):
        encode(pairs("deepseek_r1")[:1], tokenizer, ["x.jsonl:7"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(SOUND),
    texts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12), min_size=3, max_size=3),
)
def test_any_text_is_encoded_as_a_whole_would_be(name, texts):
    """The same rule as TRL's, written down again: encode prompt and pair whole, cut where they part."""
    tokenizer = templated_tokenizer(name, with_merges=True)
    question, chosen, rejected = (f"a{text}" if not text.strip() else text for text in texts)
    if chosen == rejected:
        return
    row = encode([PreferencePair((Message("user", question),), said(chosen), said(rejected))], tokenizer)[0]
    prompt = [{"role": "user", "content": question}]
    for text, completion in zip((chosen, rejected), row.completions_ids, strict=True):
        chat = [*prompt, {"role": "assistant", "content": text}]
        whole = tokenizer.apply_chat_template(chat, tokenize=True, return_dict=True)["input_ids"]
        assert [*row.prompt_ids, *completion] == whole


class Counting:
    """A tokenizer that notes which texts it is given."""

    def __init__(self, tokenizer):
        self.tokenizer, self.texts, self.num_calls = tokenizer, [], 0

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def __call__(self, texts, **arguments):
        self.num_calls += 1
        self.texts += texts
        return self.tokenizer(texts, **arguments)


def test_each_distinct_text_is_encoded_once_and_in_batches():
    tokenizer, asked = Counting(templated_tokenizer("qwen2_5")), (Message("user", "?"),)
    rows = [PreferencePair(asked, said("yes"), said("no")), PreferencePair(asked, said("yes"), said("never"))] * 50
    encode(rows, tokenizer)
    assert tokenizer.num_calls == 2  # all prompts, then all answers
    assert len(tokenizer.texts) == len(set(tokenizer.texts)) == 1 + 3
    assert all(text.startswith("<|im_start|>assistant") for text in tokenizer.texts[1:])  # not the prompt again


def test_rows_of_later_batches_are_not_encoded_again():
    tokenizer = Counting(templated_tokenizer("chatml"))
    encode([PreferencePair((Message("user", "?"),), said("yes"), said("no"))] * 3000, tokenizer)
    assert len(tokenizer.texts) == 3


def test_a_group_has_its_prompt_once_and_each_candidate_once():
    tokenizer, asked = Counting(templated_tokenizer("llama3")), (Message("user", "?"),)
    texts = ["yes", "no", "never", "yes"]
    group = encode([Group(asked, tuple(Candidate(said(text)) for text in texts))], tokenizer)[0]
    assert len(tokenizer.texts) == 1 + 3
    alone = [encode([Demonstration(asked, said(text))], tokenizer)[0] for text in texts]
    assert all(one.prompt_ids == group.prompt_ids for one in alone)
    assert group.completions_ids == tuple(one.completions_ids[0] for one in alone)
    assert group.num_tokens == len(group.prompt_ids) + sum(len(one.completions_ids[0]) for one in alone)
    assert group.longest == max(one.longest for one in alone)


def test_a_tokenizer_without_special_tokens_in_its_template_encodes_whole_texts():
    tokenizer = templated_tokenizer("chatml", with_merges=True)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
    )
    row = encode([Demonstration((Message("user", "?"),), said("the user"))], tokenizer)[0]
    whole = tokenizer("user: ?\nassistant: the user\n")["input_ids"]
    assert [*row.prompt_ids, *row.completions_ids[0]] == whole
