"""Teacher and peers: our endpoint teacher beside curator and distilabel, on the server and the cases of teacher.py.

    python benchmarks/teacher_peers.py [--check] [--envs FOLDER]

Each peer is installed once, into an environment of its own under FOLDER, and is used as its documentation says for an
OpenAI-compatible endpoint, its cache on a fresh folder. Every arm is a process of its own that first asks 50 requests
to be warm; the arms run in turns; medians. Requests/s is what the server saw, from the first request to the last reply.
Exits with 1 where a peer asks faster than we do.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any, ClassVar

from teacher import SAMPLING, TEXT, Answering, Case, ask_bare, ask_teacher, prompts, serve

PEERS = {"curator": "bespokelabs-curator==0.1.31", "distilabel": "distilabel[openai]==1.5.3 requests"}
"""What pip installs for each. distilabel 1.5.3 imports requests without asking for it."""
QUIET = {
    "TELEMETRY_ENABLED": "false",
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_PROXY": "127.0.0.1",
    "OPENAI_API_KEY": "none",
}
"""No telemetry, no look-up on the net, no proxy before the loopback server."""
LONGEST_S = 600
"""For one run of one arm."""


@dataclass(frozen=True)
class Result:
    """One run of one arm."""

    num_right: int
    call_s: float
    """From the call to the last text in hand, what the library prepares and stores included."""
    cpu_s: float
    """Of the process and its children meanwhile."""
    library: str
    server_s: float = 0.0
    """From the first request to the last reply, as the server saw it."""
    most_at_once: int = 0


class Watching(Answering):
    """Answers as `Answering` does, with the fields that clients insist on; a GET reads what was seen and forgets it."""

    BODY = json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": TEXT}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 40, "completion_tokens": 120, "total_tokens": 160},
        }
    ).encode()
    REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    NOTHING: ClassVar[dict[str, float]] = {"first": 0.0, "last": 0.0, "at_once": 0, "most_at_once": 0}
    seen: ClassVar[dict[str, float]] = dict(NOTHING)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET "):
            body = json.dumps(self.seen).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            self.seen.update(self.NOTHING)
        else:
            super().data_received(data)

    def answer(self, body: bytes) -> None:
        if b"wait " not in body:  # curator asks once without a message, to read the limits from the headers
            self.transport.write(self.REPLY)
            return
        self.seen["first"] = self.seen["first"] or time.perf_counter()
        self.seen["at_once"] += 1
        self.seen["most_at_once"] = max(self.seen["most_at_once"], self.seen["at_once"])
        delay_s = float(body.partition(b"wait ")[2].partition(b" ")[0])
        asyncio.get_running_loop().call_later(delay_s, self._finish)

    def _finish(self) -> None:
        self.transport.write(self.REPLY)
        self.seen["at_once"] -= 1
        self.seen["last"] = time.perf_counter()


def ask_curator(case: Case, url: str, texts: list[str], folder: Path) -> list[str]:
    """https://docs.bespokelabs.ai/curator/api-reference: any compatible API is backend "openai" with a base_url.

    The limits per minute are out of reach; unset, they are 200 requests and 100,000 tokens. The tokenizer that it would
    fetch from the net is the copy that litellm, which it depends on, brings along.
    """
    litellm = find_spec("litellm")
    assert litellm is not None and litellm.origin is not None
    os.environ["TIKTOKEN_CACHE_DIR"] = str(Path(litellm.origin).parent / "litellm_core_utils" / "tokenizers")
    from bespokelabs import curator

    model = curator.LLM(
        model_name="m",
        backend="openai",
        generation_params=dict(SAMPLING),
        backend_params={
            "base_url": url,
            "api_key": "none",
            "max_concurrent_requests": case.in_flight,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 100_000_000_000,
        },
    )
    return list(model(texts, working_dir=str(folder)).dataset["response"])


def ask_distilabel(case: Case, url: str, texts: list[str], folder: Path) -> list[str]:
    """https://distilabel.argilla.io/latest: a batch is asked at once, so its size is the number in flight."""
    from distilabel.models.llms import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    options = {"temperature": SAMPLING["temperature"], "top_p": SAMPLING["top_p"], "max_new_tokens": 256}
    with Pipeline(name="peers", cache_dir=folder) as pipeline:
        rows = LoadDataFromDicts(data=[{"instruction": text} for text in texts], batch_size=case.in_flight)
        llm = OpenAILLM(model="m", base_url=url, api_key="none", generation_kwargs=options)
        rows >> TextGeneration(llm=llm, input_batch_size=case.in_flight)
    return list(pipeline.run()["default"]["train"]["generation"])


def count_right(name: str, case: Case, url: str, texts: list[str], folder: Path) -> int:
    """Ask with one arm; how many of the texts came back right."""
    folder.mkdir()
    if name in ("bare", "align"):
        return asyncio.run((ask_bare if name == "bare" else ask_teacher)(case, url, texts, folder))
    answers = (ask_curator if name == "curator" else ask_distilabel)(case, url, texts, folder)
    return sum((answer or "").strip() == TEXT.strip() for answer in answers)


def be_arm(name: str, case: Case, url: str, folder: Path) -> Result:
    """Run inside the arm's own process."""
    warm_up = Case(50, 0.01, 0.0, 50)
    count_right(name, warm_up, url, prompts(warm_up, "warm up"), folder / "warm_up")
    _seen(url)
    texts = prompts(case, name)
    start, cpu = time.perf_counter(), _cpu_s()
    num_right = count_right(name, case, url, texts, folder / "run")
    package = {"curator": "bespokelabs-curator", "distilabel": "distilabel"}.get(name, "aiohttp")
    return Result(num_right, time.perf_counter() - start, _cpu_s() - cpu, f"{package} {version(package)}")


def _cpu_s() -> float:
    """Of this process and of those children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _seen(url: str) -> dict[str, Any]:
    """What the server saw since it was asked last."""
    with urllib.request.urlopen(url) as reply:
        found: dict[str, Any] = json.load(reply)
    return found


def start_arm(name: str, python: Path, case: Case, url: str) -> Result:
    """Run an arm in a process of its own.

    Raises:
        SystemExit: it failed, or a text is missing or wrong, so there is nothing to compare.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        arm = json.dumps({"name": name, "case": asdict(case), "url": url, "folder": folder})
        caches = {"HF_HOME": folder, "CURATOR_CACHE_DIR": f"{folder}/curator", "DISTILABEL_CACHE_DIR": folder}
        done = subprocess.run(
            [python, __file__, "--arm", arm],
            env={**os.environ, **QUIET, **caches},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LONGEST_S,
            check=False,
        )
        if not out.exists():
            raise SystemExit(f"{name}: must run to its end, but stopped with {done.returncode}: {done.stderr[-3000:]}")
        found = json.loads(out.read_text(encoding="utf-8"))
    if found["num_right"] != case.num_requests:
        raise SystemExit(f"{name}: {case.num_requests} texts must come back, but {found['num_right']} are right")
    seen = _seen(url)
    return Result(**{**found, "server_s": seen["last"] - seen["first"], "most_at_once": seen["most_at_once"]})


def environment(name: str, folder: Path, may_install: bool) -> Path | None:
    """The interpreter of a peer's environment, made if need be."""
    python, ready = folder / name / "bin" / "python", folder / name / "ready"
    if not ready.exists() or ready.read_text(encoding="utf-8") != PEERS[name]:
        if not may_install:
            return None
        print(f"installing {PEERS[name]} in {folder / name}", file=sys.stderr, flush=True)
        venv.create(folder / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PEERS[name].split()], check=True)
        ready.write_text(PEERS[name], encoding="utf-8")
    return python


def compare(case: Case, url: str, pythons: dict[str, Path], num_rounds: int) -> tuple[float, set[str]]:
    """(our requests/s as a share of the fastest rival's, the libraries in use); prints the rows.

    The rivals are the peers, or the bare loop where none is installed.
    """
    found: dict[str, list[Result]] = {name: [] for name in pythons}
    for number in range(num_rounds):
        names = list(pythons)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            found[name].append(start_arm(name, pythons[name], case, url))
    rates = {name: [case.num_requests / one.server_s for one in results] for name, results in found.items()}
    slow = f"{case.slow_share:.0%} 20x slower" if case.slow_share else "all alike"
    for name, results in found.items():
        print(
            f"| {case.in_flight} at {case.latency_s * 1000:.0f} ms, {slow} | {name} | {median(rates[name]):.0f} "
            f"| {_ratio(rates[name], rates['bare']):.2f} | {median(one.call_s for one in results):.1f} "
            f"| {median(one.cpu_s for one in results) / case.num_requests * 1000:.2f} "
            f"| {max(one.most_at_once for one in results)} |",
            flush=True,
        )
    rivals = [name for name in rates if name in PEERS] or ["bare"]
    lead = min(_ratio(rates["align"], rates[name]) for name in rivals)
    return lead, {one.library for results in found.values() for one in results}


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Median of the rounds' ratios: what else the machine does weighs on both arms of a round."""
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="two small cases, only with the peers that are installed")
    parser.add_argument("--envs", type=Path, help="folder of the peers' environments")
    parser.add_argument("--requests", type=int, help="of each run; 2,000 unless told")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--arm", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve(Watching))
    elif arguments.arm:
        arm, folder = arguments.arm, Path(arguments.arm["folder"])
        result = be_arm(arm["name"], Case(**arm["case"]), arm["url"], folder)
        (folder / "result.json").write_text(json.dumps(asdict(result)), encoding="utf-8")
    else:
        run(arguments.check, arguments.envs or _default_envs(), arguments.requests, arguments.rounds)


def _default_envs() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("align") / "peers"


def run(is_check: bool, envs: Path, num_requests: int | None, num_rounds: int) -> None:
    """Print the table; exit."""
    pythons = {"bare": Path(sys.executable), "align": Path(sys.executable)}
    for name in PEERS:
        python = environment(name, envs, may_install=not is_check)
        if python is None:
            print(f"{name} is not installed in {envs}, so it is left out", file=sys.stderr)
        else:
            pythons[name] = python
    shapes = [(50, 0.05, 0.0), (200, 0.25, 0.0), (50, 0.05, 0.05), (200, 0.25, 0.05)]
    num_requests = num_requests or (400 if is_check else 2000)
    cases = [Case(*shape, num_requests) for shape in (shapes[::2] if is_check else shapes)]
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        print("| in flight | library | requests/s | of bare | whole call, s | CPU s/1,000 | most at once |")
        print("|---|---|---|---|---|---|---|")
        found = [compare(case, url, pythons, 1 if is_check else num_rounds) for case in cases]
    finally:
        server.terminate()
        server.wait()
    print(f"\n{num_requests} requests; " + ", ".join(sorted({name for _, names in found for name in names})))
    lead, rival = min(lead for lead, _ in found), "the fastest peer's" if len(pythons) > 2 else "a bare loop's"
    print(f"at least {lead:.2f} of {rival} requests/s")
    raise SystemExit(1 if len(pythons) > 2 and lead < 1 else 0)


if __name__ == "__main__":
    main()
