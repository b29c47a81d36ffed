"""Terminal: real keys on a real (pseudo) terminal, lines on a pipe, and screens that fit in both languages."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from rich.cells import cell_len
from rich.console import Console

from align.data.files.rows import write_rows
from align.data.rows.pair import Message, PreferencePair
from align.review.dataset import ReviewSet
from align.review.labels import LabelFile, read_labels
from align.review.session import ReviewSession
from align.review.terminal import review
from align.review.views import HELP, question_screen, visible
from tests.review.making import BAD, GOOD, pair, save

LONG_S = 60
ENGLISH = "The gas that the yeast has made expands with the heat, and the water turns into steam. " * 3
CHINESE = "酵母产生的气体受热膨胀，面团里的水分也变成蒸汽，两者一起把面团撑起来，直到外皮定型 (see below)。" * 3


class Typist:
    """`align review --terminal` on a pseudo terminal of 80 by 40."""

    def __init__(self, folder) -> None:
        self.number, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
        self.before = termios.tcgetattr(other)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "align.cli", "review", "--terminal", str(folder)],
            **dict.fromkeys(("stdin", "stdout", "stderr"), other),
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
            start_new_session=True,
            # a shell's background jobs ignore Ctrl-C, and so would everything that they start
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.other, self.text = other, ""

    def wait_for(self, text: str) -> str:
        """What was shown up to and with a text; it is taken out of what is waited for next."""
        until = time.monotonic() + LONG_S
        while text not in self.text:
            assert time.monotonic() < until, f"{text!r} never came; there was {self.text!r}"
            if select.select([self.number], [], [], 1)[0]:
                shown = os.read(self.number, 65536).decode(errors="replace").replace("\r\n", "\n")
                self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
        shown, _, self.text = self.text.partition(text)
        return shown + text

    def see_question(self, number: int) -> str:
        """The screen of a question, up to its last line."""
        self.wait_for(f"pair {number} of ")
        return self.wait_for("? help")

    def press(self, keys: str) -> None:
        os.write(self.number, keys.encode())

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.number)
        os.close(self.other)

    def end(self) -> int:
        code = self.process.wait(LONG_S)
        assert termios.tcgetattr(self.other) == self.before, "the terminal must be left as it was"
        return code


def better(screen: str) -> str:
    """The key of the side that a person finds better."""
    return "a" if screen.index(GOOD[:20]) < screen.index(BAD[:20]) else "b"


def test_single_keys_label_undo_help_and_quit_on_a_terminal(tmp_path):
    folder = save(tmp_path, [pair(number, is_wrong=number % 4 == 0) for number in range(40)])
    with Typist(folder) as typist:
        for number in range(1, 9):
            typist.press(better(typist.see_question(number)))
        screen = typist.see_question(9)
        assert "5 labelled: " in screen and " % wrong (" in screen
        typist.press("u")
        assert "the last answer is taken back" in typist.see_question(8) + typist.wait_for("taken back")
        typist.press("?")
        typist.wait_for("what you just answered.")
        typist.press("\x1b[A")  # an arrow key, whose last character is a letter
        typist.see_question(8)
        typist.wait_for("is not one of the keys")
        typist.press("ｔ")  # full-width, from a Chinese keyboard
        typist.see_question(9)
        typist.press("s")
        typist.see_question(10)
        typist.press("q")
        typist.wait_for("estimate: ")
        assert typist.end() == 0
    words = [label.label for label in read_labels(folder / "labels.jsonl").values()]
    assert words[7:] == ["tie", "skip"] and set(words[:7]) <= {"ok", "wrong"}
    assert all(0 <= label.seconds < LONG_S for label in read_labels(folder / "labels.jsonl").values())
    record = json.loads((folder / "noise.json").read_text())
    assert (record["labelled"], record["skipped"], record["pairs"]) == (8, 1, 40)


def test_the_next_session_goes_on_where_the_last_was_killed(tmp_path):
    folder = save(tmp_path, [pair(number) for number in range(12)])
    with Typist(folder) as typist:
        for number in range(1, 4):
            typist.press(better(typist.see_question(number)))
        typist.see_question(4)
        typist.process.send_signal(signal.SIGKILL)
        typist.process.wait()
    with Typist(folder) as typist:
        typist.wait_for("12 pairs, 3 asked before")
        typist.see_question(4)
        typist.press("\x04")  # Ctrl-D
        typist.wait_for("estimate: ")
        assert typist.end() == 0


def test_ctrl_c_keeps_the_labels_writes_the_estimate_and_ends_with_130(tmp_path):
    folder = save(tmp_path, [pair(number) for number in range(12)])
    with Typist(folder) as typist:
        typist.press(better(typist.see_question(1)))
        typist.see_question(2)
        typist.process.send_signal(signal.SIGINT)
        typist.wait_for("interrupted")
        assert typist.end() == 130
    assert json.loads((folder / "noise.json").read_text())["labelled"] == 1


def test_on_a_pipe_each_line_is_an_answer_and_the_end_is_quit(tmp_path, capsys):
    folder = save(tmp_path, [pair(number) for number in range(4)])
    review(folder, answers=io.StringIO("a\n\nB\nu\nz\nt\n"))
    shown = capsys.readouterr().out
    assert "'' is not one of the keys" in shown and "'z' is not one of the keys" in shown
    assert [label.label for label in read_labels(folder / "labels.jsonl").values()][1] == "tie"
    assert "2 labelled" in shown and "too few pairs for ±3 points" in shown
    review(folder, answers=io.StringIO("a\na\n"))
    assert "every pair was asked" in capsys.readouterr().out


def test_quitting_at_once_writes_no_estimate_and_says_so(tmp_path, capsys):
    folder = save(tmp_path, [pair(0), pair(1)])
    review(folder, answers=io.StringIO("u\nq\n"))
    shown = capsys.readouterr().out
    assert "there is no answer to take back" in shown and "noise.json was not written" in shown
    assert not (folder / "noise.json").exists()


def test_repeated_rows_strange_labels_and_a_torn_line_are_told(tmp_path, capsys):
    folder = save(tmp_path, [pair(0), pair(1), pair(1)])
    review(folder, answers=io.StringIO("a\na\n"))
    save(folder, [pair(1), pair(1), pair(2)])
    with (folder / "labels.jsonl").open("ab") as file:
        file.write(b'{"key"')
    review(folder, answers=io.StringIO("q\n"))
    shown = capsys.readouterr().out
    assert "1 rows repeat another" in shown and "1 labels are of pairs that are not in this file" in shown
    assert "half-written last line of 6 bytes was cut off" in shown


def test_where_the_chosen_side_stands_is_drawn_and_nothing_else_tells_it(tmp_path):
    folder = save(tmp_path, [pair(number, chosen={"tokens": 77}, judge={"winner": "chosen"}) for number in range(60)])
    data = ReviewSet.read(folder)
    with LabelFile(data.labels_path) as labels:
        session = ReviewSession(data, labels)
        places = []
        while (question := session.question()) is not None:
            places.append(question.sides[0])
            console = Console(width=80, file=io.StringIO(), record=True)
            console.print(question_screen(question, 60, "", 80))
            shown = console.export_text()
            assert not any(word in shown for word in ("chosen", "rejected", "77", "judge"))
            session.answer(question, "a", 1.0)
    assert 18 <= places.count("chosen") <= 42


@pytest.mark.parametrize("width", [80, 101, 120])
@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
def test_no_screen_loses_text_or_leaves_the_width(tmp_path, width, text):
    sides = ((Message("assistant", one),) for one in (text, text[::-1]))
    write_rows(tmp_path / "pairs.jsonl", [PreferencePair((Message("user", text),), *sides)])
    data = ReviewSet.read(tmp_path)
    with LabelFile(data.labels_path) as labels:
        question = ReviewSession(data, labels).question()
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(question_screen(question, 1, "0 labelled", width))
    lines = console.export_text().splitlines()
    assert max(map(cell_len, lines)) <= width and "…" not in "".join(lines)
    frames = [line for line in lines if line.startswith("│")]
    assert frames and {cell_len(line.rstrip()) for line in frames} == {width}
    for is_second in (False, True):
        halves = [line.split("│") for line in frames]
        cells = [one[3 if is_second and len(one) > 3 else 1] for one in halves]
        shown = re.sub(r"\s", "", "".join(cells))
        wanted = text if question.sides[is_second] == "chosen" else text[::-1]
        assert re.sub(r"\s", "", wanted) in shown


def test_help_and_keys_fit_into_eighty_columns():
    assert max(map(len, HELP.splitlines())) <= 80


def test_text_cannot_steer_the_terminal():
    assert visible("a\x1b[2Jb\r\nc\td\u202ee　f") == "a␛[2Jb\nc    d\ufffde　f"


@pytest.mark.parametrize("words", [(), ("--terminal", "--apply", "x.jsonl")])
def test_the_command_wants_exactly_one_of_its_two_modes(tmp_path, words):
    done = subprocess.run(
        [sys.executable, "-m", "align.cli", "review", str(tmp_path), *words], capture_output=True, text=True
    )
    assert done.returncode == 2 and "needs one of --terminal" in done.stderr
