"""Math answer: what counts as equal, and that nothing that sympy does can stop or mislead the training process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from align.errors import ConfigError, DataError
from align.rewards.math_answer import MathAnswer, marked_answer

HANGS = "$9^{9^{9^{9}}}$"
"""sympy evaluates it inside one multiplication that ends in no lifetime; no Python handler runs meanwhile."""


@pytest.fixture(scope="module")
def reward():
    made = MathAnswer()
    yield made
    made.checker.close()


def scores(reward: MathAnswer, *texts: str, gold: object = 7) -> list[float | None]:
    return asyncio.run(reward(prompts=["?"] * len(texts), completions=list(texts), answer=[gold] * len(texts)))


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        (0.5, r"So \boxed{\frac{1}{2}}."),
        ("1/2", "0.5"),
        ("x+1", r"\boxed{1+x}"),
        (r"2\sqrt{3}", r"It is $\sqrt{12}$."),
        (r"\{1,2\}", r"\boxed{2,1}"),
        ("3", "$x=3$"),
        ("[0,1)", r"\boxed{[0,1)}"),
        ("1,234", "1234 people"),
        ("She has 3 + 4 = 7. #### 7", "The answer is 7."),
        (r"It is \boxed{7}, as 3 + 4.", "7"),
        (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}"),
        (r"10\text{ cm}", r"\boxed{10\text{ cm}}"),
        ("答案是 #### ７", "所以答案是７。"),
        ("7", "共有7个苹果"),
        (r"\$12", r"\boxed{12}"),
    ],
)
def test_equal_answers_score_1(reward, gold, text):
    assert scores(reward, text, gold=gold) == [1.0]


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("1/3", "0.33"),
        (r"2\sqrt{3}", r"\boxed{2}"),
        (7, "no idea"),
        (7, ""),
        (7, r"\boxed{7} no, \boxed{8}"),
        (7, "$x>3$"),
        ("(1,2)", "$3$"),
    ],
)
def test_other_answers_score_0(reward, gold, text):
    assert scores(reward, text, gold=gold) == [0.0]


@pytest.mark.parametrize("gold", [None, "", "  "])
def test_a_row_without_a_gold_cannot_be_judged_and_the_others_keep_their_places(reward, gold):
    found = asyncio.run(reward(prompts=["?"] * 3, completions=["7", "7", "8"], answer=[7, gold, 7]))
    assert found == [1.0, None, 0.0]


@pytest.mark.parametrize("gold", ["Paris", "12 apples", "The answer is 7", True, ["7"], r"\boxed{}"])
def test_a_gold_that_cannot_be_read_is_an_error_and_never_scores_0(reward, gold):
    with pytest.raises(DataError, match="must be"):
        scores(reward, "7", gold=gold)
    assert scores(reward, "7") == [1.0]


def test_a_column_that_no_row_has_is_an_error(reward):
    with pytest.raises(DataError, match="no row has the column 'answer'"):
        asyncio.run(reward(prompts=["?"], completions=["7"], gold=[7]))


def test_a_bare_formula_is_marked_so_that_it_is_not_read_as_its_first_number():
    assert marked_answer(r"2\sqrt{3}") == r"\boxed{2\sqrt{3}}"
    assert marked_answer("So $7$") == "So $7$"


def test_what_hangs_is_stopped_in_time_and_the_others_are_scored_right(capfd):
    reward, logged = MathAnswer(timeout_s=2.0), {}
    scores(reward, "7")  # the child is up, so that only the clock of a completion counts below
    started = time.monotonic()
    texts = [r"\boxed{7}", HANGS, "8", "$10^{10^{10}}$", "it is 7"]
    found = asyncio.run(
        reward(["?"] * 5, texts, answer=[7] * 5, log_metric=lambda name, value: logged.update({name: value}))
    )
    assert found == [1.0, None, 0.0, None, 1.0]
    assert time.monotonic() - started < 60
    assert reward.checker.num_timeouts + reward.checker.num_failed == 2 and reward.checker.num_timeouts >= 1
    assert logged == {"MathAnswer/no_score": 2.0}
    assert "MathAnswer: a completion has no score (None): it took longer than 2 s; 1 so far" in capfd.readouterr().err
    reward.checker.close()


def test_a_child_that_was_killed_is_replaced(capfd):
    reward = MathAnswer()
    assert scores(reward, "7") == [1.0]
    child_of(reward).kill()
    assert scores(reward, "7", "7") == [None, 1.0]
    assert reward.checker.num_failed == 1
    assert "its child process died (exit code -9)" in capfd.readouterr().err
    reward.checker.close()


def test_it_works_in_an_event_loop_in_a_thread_and_from_two_threads_at_once(reward):
    async def side_by_side():
        return await asyncio.gather(*(reward(["?"] * 2, ["7", str(i)], answer=[7, 7]) for i in range(8)))

    assert asyncio.run(side_by_side()) == [[1.0, float(i == 7)] for i in range(8)]
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda i: scores(reward, str(i), "7"), range(20)))
    assert found == [[float(i == 7), 1.0] for i in range(20)]


def test_a_loop_goes_on_while_a_completion_is_checked():
    async def main():
        reward = MathAnswer(timeout_s=1.0)
        task = asyncio.create_task(reward(["?"], [HANGS], answer=[7]))
        num_turns = 0
        while not task.done():
            await asyncio.sleep(0)
            num_turns += 1
        reward.checker.close()
        return num_turns, await task

    num_turns, found = asyncio.run(main())
    assert found == [None] and num_turns > 100


def test_the_child_is_a_fresh_interpreter_without_cuda_and_leaves_no_zombie(reward):
    scores(reward, "7")
    child = child_of(reward)
    assert child.environ()["CUDA_VISIBLE_DEVICES"] == "" and "-c" in child.cmdline()
    reward.checker.close()
    assert not child.is_running() and child.pid not in {one.pid for one in psutil.Process().children()}


def test_a_process_that_forgets_to_close_ends_and_takes_its_child_with_it():
    code = (
        "import asyncio, psutil; from align.rewards.math_answer import MathAnswer; reward = MathAnswer();"
        "print(asyncio.run(reward(['?'], ['7'], answer=[7])), psutil.Process().children()[0].pid)"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    found, pid = ran.stdout.rsplit(maxsplit=1)
    assert (ran.returncode, found, ran.stderr) == (0, "[1.0]", "")
    assert not psutil.pid_exists(int(pid))


def test_a_child_ends_with_its_reward():
    reward = MathAnswer()
    scores(reward, "7")
    child = child_of(reward)
    del reward
    child.wait(timeout=60)


@pytest.mark.parametrize("timeout_s", [0, -1.0])
def test_a_clock_that_never_runs_is_refused(timeout_s):
    with pytest.raises(ConfigError, match="timeout_s must be greater than 0"):
        MathAnswer(timeout_s=timeout_s)


def child_of(reward: MathAnswer) -> psutil.Process:
    return psutil.Process(reward.checker._child._process.pid)
