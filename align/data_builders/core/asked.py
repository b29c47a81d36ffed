"""Asked teachers: those of one build, each asked through its ledger and closed at its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from align.teachers.base import Teacher
from align.teachers.ledger.ledger import Ledger
from align.teachers.ledger.recorded import RecordedTeacher
from align.teachers.settings import TeacherSettings


class AskedTeachers:
    """Equal settings share one teacher, if they share the schema too. One that was given as an object is not closed:
    it is its owner's."""

    def __init__(self) -> None:
        self._known: list[tuple[TeacherSettings | Teacher, Mapping[str, Any] | None, Teacher]] = []
        """(As it was given, the JSON schema that it is held to, as it is asked)."""

    @property
    def all(self) -> list[Teacher]:
        """As they are asked."""
        return [teacher for *_, teacher in self._known]

    def get(
        self, who: TeacherSettings | Teacher, ledger: Ledger, json_schema: Mapping[str, Any] | None = None
    ) -> Teacher:
        """The teacher as it is asked. `json_schema` is what an endpoint's answers are held to."""
        is_held = isinstance(who, TeacherSettings) and who.is_endpoint
        schema = json_schema if is_held else None
        for known, known_schema, teacher in self._known:
            is_equal = known is who or (isinstance(who, TeacherSettings) and known == who)
            if is_equal and known_schema == schema:
                return teacher
        made = who.make(ledger, schema) if isinstance(who, TeacherSettings) else RecordedTeacher(who, ledger)
        self._known.append((who, schema, made))
        return made

    async def aclose(self) -> None:
        """Wait for what is on its way, and free the teachers that were made here."""
        for who, _, teacher in self._known:
            if isinstance(who, TeacherSettings):
                await teacher.aclose()
        self._known.clear()
