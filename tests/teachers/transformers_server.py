"""Transformers server: `transformers serve` in a process of its own, which nobody wrote for these tests.

    with serve("embedded:smollm2-135m", folder) as served:
        there = ContrastBuilder(contrast(served.there, folder / "there")).run()
        here = ContrastBuilder(contrast(served.here, folder / "here")).run()

Both make the same pairs, since `contrast` asks at temperature 0.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from align.data_builders.contrast import ContrastSettings
from align.models.resolve import resolve
from align.settings.base import load_settings
from align.teachers.settings import TeacherSettings
from tests.recipes import launching

SHORT = Path(__file__).parents[2] / "data_builders" / "contrast_short.yaml"
_START_S = 300.0
"""Importing transformers and loading the model takes 15 s on an idle core."""
_END_S = 30.0


@dataclass(frozen=True)
class TransformersServer:
    """A running server and the model that it serves."""

    model: str
    """Folder of the model; the server answers to this name only."""
    url: str
    log: Path
    """What it wrote, a line for each request."""

    @property
    def there(self) -> TeacherSettings:
        """The model behind the server."""
        return TeacherSettings(model=self.model, base_url=self.url)

    @property
    def here(self) -> TeacherSettings:
        """The same model in this process, in the same arithmetic."""
        return TeacherSettings(model=self.model, compute="float32", batch_size=4)

    @property
    def num_requests(self) -> int:
        """Chat requests that came in so far, refused ones too."""
        return self.log.read_text(encoding="utf-8").count('"POST /v1/chat/completions HTTP/1.1"')


@contextmanager
def serve(model: str, folder: Path) -> Iterator[TransformersServer]:
    """Serve a model in float32 on the CPU, and end the server afterwards. Its log goes into `folder`."""
    path, port, log = resolve(model).path, launching.free_port(), folder / "server.log"
    words = ["--dtype", "float32", "--device", "cpu", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(launching.BIN / "transformers"), "serve", path, *words],
            env={**launching.environment(), "HF_HUB_OFFLINE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(process, port, log)
        yield TransformersServer(path, f"http://127.0.0.1:{port}/v1", log)
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def contrast(teacher: TeacherSettings, folder: Path) -> ContrastSettings:
    """The shipped dataset of short answers, cut to four questions and asked greedily."""
    words = ["sampling.temperature=0", "sampling.max_tokens=64", "heldout=null", f"output_dir={folder}"]
    questions = ["Why do cats purr?", "What makes bread dough rise?", "Why does ice float on water?", "What is hail?"]
    shipped = load_settings(ContrastSettings, SHORT, [*words, f"prompts={json.dumps(questions)}"])
    return shipped.model_copy(update={"teacher": teacher})


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until it answers, which it does when the model is loaded."""
    late = time.monotonic() + _START_S
    while not _is_healthy(port):
        if process.poll() is not None or time.monotonic() > late:
            said = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise RuntimeError(f"transformers serve must answer, but has ended or is too slow; it wrote:\n{said}")
        time.sleep(0.1)


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()
