"""Pairwise judge: asks a teacher which of two answers is better by given criteria."""

from __future__ import annotations

from align.data.rows.message import Messages
from align.judges.base import Verdict, majority
from align.judges.pairwise_prompt import Language, answer_text, ask
from align.judges.verdict_text import read_verdict
from align.teachers.base import Sampling, Teacher
from align.text.plain import plain_text


class PairwiseJudge:
    """A teacher as a judge. Its verdicts may depend on the order; `BothOrders` deals with that."""

    def __init__(
        self,
        teacher: Teacher,
        criteria: str,
        sampling: Sampling | None = None,
        language: Language = "auto",
        num_votes: int = 1,
        strips_style: bool = True,
    ) -> None:
        """`sampling` is greedy with 512 tokens unless given; several votes need a temperature above 0.

        `strips_style` shows answers without their formatting (`align/text/plain.py`).
        """
        self.name = f"pairwise:{teacher.name}"
        self._teacher = teacher
        self._criteria = criteria
        self._sampling = sampling or Sampling(temperature=0.0, max_tokens=512)
        self._language = language
        self._num_votes = num_votes
        self._shown = plain_text if strips_style else str

    async def verdict(self, prompt: Messages, first: Messages, second: Messages) -> Verdict:
        """The majority of the votes, else a tie. Nobody is asked about answers that differ in formatting alone.

        Raises:
            JudgeError: a vote cannot be read, be it one of several.
            AnswerError: the teacher has no answer for this call.
        """
        texts = [self._shown(answer_text(answer)) for answer in (first, second)]
        if texts[0] == texts[1]:
            return Verdict("tie", "the answers differ in formatting alone")
        messages = ask(prompt, texts[0], texts[1], self._criteria, self._language)
        completions = await self._teacher.complete(messages, self._sampling, self._num_votes)
        return majority(tuple(read_verdict(completion) for completion in completions))
