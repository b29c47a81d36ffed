"""Judge settings: a judge as a YAML section, and the object it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from align.data.rows.instruction import Text
from align.settings.base import Settings
from align.teachers.base import Teacher
from align.teachers.settings import SamplingSettings, TeacherSettings

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on

    from align.judges.both_orders import BothOrders


class VerdictSampling(SamplingSettings):
    """How verdicts are drawn: greedy, and long enough for a reason."""

    temperature: float = Field(default=0.0, ge=0)
    """0 means greedy; several votes need more."""
    max_tokens: int = Field(default=512, ge=1)
    """Tokens after which a verdict is cut off, and then cannot be read."""


class JudgeSettings(Settings):
    """A teacher that says which of two answers is better."""

    teacher: TeacherSettings
    """Who judges; best another model than the one that wrote the answers."""
    criteria: Text
    """What makes an answer the better one, in your own words."""
    language: Literal["auto", "en", "zh"] = "auto"
    """Language of the question to the judge; auto: Chinese where the conversation is Chinese."""
    num_votes: int = Field(default=1, ge=1)
    """Votes in each order, of which more than half must agree."""
    second_order: Literal["auto", "always", "never"] = "auto"
    """Whether each pair is judged with its answers swapped, too; auto: until 100 pairs show that it changes nothing."""
    strip_style: bool = True
    """Show answers without headings, bold type, bullets and emoji; false where these are what is judged."""
    sampling: VerdictSampling = VerdictSampling()
    """How verdicts are drawn; the seed also fixes which order comes first."""

    @model_validator(mode="after")
    def _votes_can_differ(self) -> Self:
        if self.num_votes > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"num_votes is {self.num_votes}, but with sampling.temperature 0 all votes are equal; raise the "
                "temperature (0.7, for example) or ask for one vote"
            )
        return self

    def make(self, teacher: Teacher) -> BothOrders:
        """The judge over a teacher that was made with `VERDICT_SCHEMA` (`align.judges.verdict_text`)."""
        from align.judges.both_orders import BothOrders
        from align.judges.pairwise import PairwiseJudge

        judge = PairwiseJudge(
            teacher, self.criteria, self.sampling.make(), self.language, self.num_votes, self.strip_style
        )
        return BothOrders(judge, self.second_order, self.sampling.seed)
