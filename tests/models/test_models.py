"""Names of models become something loadable, and a loaded model scores texts exactly."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from align.errors import ConfigError, DataError
from align.models import scoring
from align.models.identity import weights_sha256
from align.models.load import end_token_ids, load_model, load_tokenizer
from align.models.resolve import EMBEDDED, ResolvedModel, resolve
from align.models.scoring import completion_logps, cross_logps, text_nll

# peft 0.21 reads a property that transformers 5.23 calls deprecated; can go with peft's next release.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

CHAT = [{"role": "user", "content": "What does the sea say?"}]


@pytest.fixture(scope="module")
def loaded(tiny_model):
    return load_model(tiny_model), load_tokenizer(tiny_model)


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory) -> Path:
    """A LoRA adapter over the tiny model that changes its answers."""
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("adapter")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(load_model(tiny_model), config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tiny_gguf(tmp_path_factory) -> Path:
    """A one-layer Llama in a GGUF file without a chat template."""
    return _write_gguf(tmp_path_factory.mktemp("gguf") / "bare.gguf", chat_template=None)


# Names


def test_hub_name_stays_as_it_is() -> None:
    assert resolve("Qwen/Qwen2.5-0.5B-Instruct").path == "Qwen/Qwen2.5-0.5B-Instruct"


def test_model_folder_is_its_own_path(tiny_model) -> None:
    assert resolve(tiny_model) == ResolvedModel(tiny_model, tiny_model, None)


def test_run_folder_stands_for_its_model(tiny_model, tmp_path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    assert resolve(str(tmp_path)).path == str(tmp_path / "model")


@pytest.mark.parametrize("name", ["./x", "../x", "/no/x", "~/no-such-folder", "a/b/c", "a\\b", "x.gguf"])
def test_path_that_does_not_exist_is_refused(name, tmp_path, monkeypatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(ConfigError, match="no such file or folder"):
        resolve(name)


def test_folder_without_a_model_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"must hold config\.json"):
        resolve(str(tmp_path))


def test_file_of_another_kind_is_refused(tmp_path) -> None:
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(ConfigError, match="another kind of file"):
        resolve(str(tmp_path / "model.bin"))


def test_unknown_embedded_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedded:smollm2-135m"):
        resolve("embedded:gpt-2")


@pytest.mark.skipif(importlib.util.find_spec("modelscope") is not None, reason="modelscope is installed")
def test_modelscope_name_without_the_package_names_the_command() -> None:
    with pytest.raises(ConfigError, match="pip install modelscope"):
        resolve("modelscope:Qwen/Qwen3-0.6B")


def test_adapter_folder_resolves_its_base(tiny_model, adapter) -> None:
    assert resolve(str(adapter)) == ResolvedModel(str(adapter), tiny_model, str(adapter))


def test_adapter_whose_base_is_gone_is_refused(tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/no/such/base"}))
    with pytest.raises(ConfigError, match=r"adapter_config\.json: base_model_name_or_path cannot be used.*no such"):
        resolve(str(tmp_path))


def test_adapter_on_an_adapter_is_refused(adapter, tmp_path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(adapter)}))
    with pytest.raises(ConfigError, match="is itself an adapter"):
        resolve(str(tmp_path))


def test_resolving_the_embedded_model_again_imports_no_torch() -> None:
    resolve(EMBEDDED)
    code = (
        "import sys; from align.models.resolve import EMBEDDED, resolve; resolved = resolve(EMBEDDED);"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules; print(resolved.path)"
    )
    path = Path(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
    assert (path / "model.safetensors").is_file() and (path / "tokenizer.json").is_file()


def test_gguf_file_without_chat_template_is_refused_and_leaves_nothing(tiny_gguf, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="chat template"):
        resolve(str(tiny_gguf))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_two_processes_that_convert_at_once_both_succeed(tmp_path) -> None:
    file = _write_gguf(tmp_path / "chatty.gguf", chat_template="{{ messages[0]['content'] }}")
    command = [sys.executable, "-c", f"from align.models.resolve import resolve; print(resolve({str(file)!r}).path)"]
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": "", "HOME": str(tmp_path)}
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate()[0].splitlines()[-1] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(paths) == 1
    folder = Path(paths.pop())
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert load_model(str(folder)).dtype == torch.float32
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


# Loading


def test_adapter_is_loaded_on_its_base(tiny_model, adapter, loaded) -> None:
    base, tokenizer = loaded
    adapted = load_model(str(adapter))
    assert not adapted.training
    with_adapter, without = (completion_logps(m, tokenizer, [CHAT], ["hush"])[0][0] for m in (adapted, base))
    assert abs(with_adapter - without) > 0.1


def test_loading_shows_no_progress_bar(tiny_model, capfd) -> None:
    load_model(tiny_model)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_dtype_is_honoured_or_refused(tiny_model) -> None:
    assert load_model(tiny_model, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="float16"):
        load_model(tiny_model, dtype="float16")


def test_fingerprint_follows_the_weights(tiny_model, tmp_path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    assert weights_sha256(str(copy)) == weights_sha256(tiny_model)
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    assert weights_sha256(str(copy)) != weights_sha256(tiny_model)
    assert weights_sha256("Qwen/Qwen3-0.6B") == "hub:Qwen/Qwen3-0.6B"


# Scoring


def test_completion_logps_equal_a_plain_forward(loaded) -> None:
    model, tokenizer = loaded
    prompts, completions = _some_rows(num_rows=9)
    scored = completion_logps(model, tokenizer, prompts, completions, batch_size=4)
    for prompt, completion, (logp, num_tokens) in zip(prompts, completions, scored, strict=True):
        expected = _plain_logp(model, tokenizer, prompt, completion)
        assert logp == pytest.approx(expected, abs=1e-3)
        assert num_tokens == len(completion.encode()) + 1


def test_end_token_counts_unless_the_cut_falls_before_it(loaded) -> None:
    model, tokenizer = loaded
    lengths = [
        completion_logps(model, tokenizer, [CHAT], ["hush"], max_tokens=max_tokens)[0][1]
        for max_tokens in (None, 5, 4, 2)
    ]
    assert lengths == [5, 5, 4, 2]


def test_empty_completion_scores_its_end_token(loaded) -> None:
    model, tokenizer = loaded
    ((logp, num_tokens),) = completion_logps(model, tokenizer, [CHAT], [""])
    assert num_tokens == 1 and logp == pytest.approx(_plain_logp(model, tokenizer, CHAT, ""), abs=1e-4)


def test_cross_logps_equal_completion_logps(loaded) -> None:
    model, tokenizer = loaded
    prompts, completions = _some_rows(num_rows=12)
    wanted = [(p, c) for p in range(12) for c in range(12) if (p + c) % 3]
    crossed = cross_logps(model, tokenizer, prompts, completions, wanted, max_tokens=20)
    paired = completion_logps(
        model, tokenizer, [prompts[p] for p, _ in wanted], [completions[c] for _, c in wanted], max_tokens=20
    )
    assert list(crossed) == wanted or set(crossed) == set(wanted)
    for pair, (logp, _) in zip(wanted, paired, strict=True):
        assert crossed[pair] == pytest.approx(logp, abs=1e-3)


def test_text_nll_predicts_every_token_but_the_first_once(loaded) -> None:
    model, tokenizer = loaded
    text = "The captain kept a log of every storm."
    ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
    whole = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:]).item()
    assert text_nll(model, tokenizer, text) == pytest.approx(whole, abs=1e-4)
    halves = [
        torch.nn.functional.cross_entropy(model(part).logits[0, :-1], part[0, 1:], reduction="sum").item()
        for part in (ids[:, :21], ids[:, 20:])
    ]
    expected = sum(halves) / (ids.shape[1] - 1)
    assert text_nll(model, tokenizer, text, window=20) == pytest.approx(expected, abs=1e-4)


def test_text_of_one_token_is_refused(loaded) -> None:
    with pytest.raises(DataError, match="at least 2 tokens"):
        text_nll(*loaded, "x")


def test_model_without_chat_template_is_refused(tiny_model) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = None
    with pytest.raises(ConfigError, match="chat template"):
        scoring.render_prompt(tokenizer, CHAT)


def test_embedded_model_finds_the_right_answer_likelier() -> None:
    model, tokenizer = load_model(EMBEDDED, dtype="bfloat16"), load_tokenizer(EMBEDDED)
    prompts = [[{"role": "user", "content": f"What is the capital of {land}?"}] for land in ("France", "Japan")]
    answers = ["The capital of France is Paris.", "The capital of Japan is Tokyo."]
    logps = cross_logps(model, tokenizer, prompts, answers, [(p, c) for p in range(2) for c in range(2)])
    assert logps[0, 0] > logps[0, 1] and logps[1, 1] > logps[1, 0]


def _some_rows(num_rows: int) -> tuple[list[list[dict[str, str]]], list[str]]:
    source = random.Random(0)
    words = ["sea", "captain", "log", "storm", "crew", "sail", "dawn", "gull", "water", "ship", "rope", "moon"]
    texts = [" ".join(source.choices(words, k=source.randint(1, 12))) for _ in range(2 * num_rows)]
    return [[{"role": "user", "content": text}] for text in texts[:num_rows]], texts[num_rows:]


def _plain_logp(model, tokenizer, prompt, completion) -> float:
    context = tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
    target = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logps = model(torch.tensor([context + target])).logits[0].log_softmax(-1)
    return sum(logps[len(context) - 1 + i, token].item() for i, token in enumerate(target))


def _write_gguf(file: Path, chat_template: str | None) -> Path:
    """A one-layer Llama of random weights with a tokenizer of single letters."""
    import gguf
    import numpy as np

    hidden, feed_forward = 32, 64
    letters = [*"abcdefghijklmnopqrstuvwxyz", "ab", "<|im_start|>", "<|im_end|>"]
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(feed_forward)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(hidden // 2)
    writer.add_vocab_size(len(letters))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(letters)
    writer.add_token_types([1] * (len(letters) - 2) + [3, 3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(len(letters) - 2)
    writer.add_eos_token_id(len(letters) - 1)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    shapes = {
        "token_embd": (len(letters), hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.ffn_norm": (hidden,),
        **{f"blk.0.attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (feed_forward, hidden),
        "blk.0.ffn_up": (feed_forward, hidden),
        "blk.0.ffn_down": (hidden, feed_forward),
    }
    source = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", source.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_the_end_tokens_are_those_of_the_generation_config(tiny_model, tmp_path):
    end = load_tokenizer(tiny_model).eos_token_id
    assert end_token_ids(tiny_model) == {end}
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 107]}', encoding="utf-8")
    assert end_token_ids(str(folder)) == {1, 107}
    (folder / "generation_config.json").unlink()
    assert end_token_ids(str(folder)) == set()
