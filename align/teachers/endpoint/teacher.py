"""Endpoint teacher: a model behind an OpenAI-compatible API, asked through the ledger.

Every request is noted before it is sent and its outcome afterwards (`align/teachers/ledger/ledger.py`); what is done
when something goes wrong stands in one table (`rules.py`); how fast is asked is for the limiter (`limiter.py`).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from align.data.rows.message import Message, as_dicts
from align.errors import AlignError, AnswerError, AuthError, ConfigError, UnreachableError
from align.teachers.base import Completion, Sampling
from align.teachers.endpoint.client import ChatClient
from align.teachers.endpoint.limiter import Limiter
from align.teachers.endpoint.pool import Endpoint, EndpointPool, Patience, Slot
from align.teachers.endpoint.provider import Place, json_format, price_of, thinking_of
from align.teachers.endpoint.reply import Reply
from align.teachers.endpoint.retry_after import LONGEST_S
from align.teachers.endpoint.rules import RULES, Then
from align.teachers.ledger.entry import Answer, Call, Outcome, State
from align.teachers.ledger.ledger import NOT_SENT, Ledger
from align.teachers.token_counts import fewest_prompt_tokens, most_prompt_tokens

_LEAST_SHARE = 0.9
"""Of the prompt's own count that a server must report, or it has cut the prompt."""
_FIRST_REFUSED = 5
"""Requests that are refused before any is answered, after which it is the settings that are wrong."""

_LONG_CHARACTERS = 80
"""From which on two samples are not equal by chance."""


class EndpointTeacher:
    """A model behind one or several equal URLs."""

    def __init__(
        self,
        place: Place,
        ledger: Ledger,
        concurrency: int = 32,
        requests_per_second: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
        count_tokens: Callable[[Sequence[Message]], int] | None = None,
        patience: Patience | None = None,
    ) -> None:
        """`concurrency` and `requests_per_second` hold for each URL. `count_tokens` counts a prompt with the model's
        own tokenizer and makes the check for cut prompts sharp.

        Raises:
            ConfigError: other URLs stood under this name before; a budget without a price; thinking cannot be switched.
        """
        self.name = f"{place.name}:{place.model}"
        self.notes: Counter[str] = Counter()
        """What should be known but stops nothing, such as answers without token counts."""
        self._place = place
        self._ledger = ledger
        self._count_tokens = count_tokens
        self._patience = patience or Patience()
        self.price = price_of(place, ledger.budget)
        """None: free, or not known."""
        self._fixed = {**place.preset.body, **thinking_of(place), **json_format(place.preset, json_schema)}
        self._wants_word_json = json_schema is not None and place.preset.json_mode == "json_object"
        endpoints = [Endpoint(url.rstrip("/"), Limiter(concurrency, requests_per_second)) for url in place.urls]
        self._pool = EndpointPool(self.name, endpoints, self._patience)
        self._client = ChatClient(place, self._patience)
        self._has_answered = ledger.has_answered(place.name, place.model)
        self._num_bad_requests = 0
        ledger.register(place.name, place.urls, place.same_teacher)

    @property
    def num_refused(self) -> int:
        """Requests that the server turned away so far."""
        return sum(endpoint.limiter.num_refused for endpoint in self._pool.endpoints)

    @property
    def num_in_flight(self) -> int:
        """Requests on the wire."""
        return sum(endpoint.limiter.in_flight for endpoint in self._pool.endpoints)

    async def complete(self, messages: Sequence[Message], sampling: Sampling, n: int = 1) -> list[Completion]:
        """Draw `n` completions, each with a request of its own unless the ledger has it.

        Raises:
            AnswerError: this call has no answer; the others go on.
            AuthError, BudgetError, ConfigError, UnreachableError: nothing more will be answered.
        """
        if self._wants_word_json and not any("json" in message.content.lower() for message in messages):
            raise ConfigError(f"teacher {self.name}: JSON output needs the word JSON and an example in the prompt")
        asked = self._asked(messages, sampling)
        calls = [Call(self._place.name, self._place.model, asked, index) for index in range(n)]
        answers = [self._ledger.answer(call, partial(self._ask, call, messages, sampling)) for call in calls]
        found = [await answers[0]] if n == 1 else await asyncio.gather(*answers)
        if n > 1 and sampling.temperature > 0 and _are_one_long_answer(found):
            self._note("prompts whose samples are all equal: the server may ignore the temperature")
        return [answer.completion(call) for answer, call in zip(found, calls, strict=True)]

    async def aclose(self) -> None:
        """Wait for the answers that are on their way, and close the connections. The ledger stays open.

        Calls that were not sent yet fail with RuntimeError.
        """
        self._pool.stop(RuntimeError(f"the teacher {self.name} was closed"))
        if self.num_in_flight:
            print(f"teacher {self.name}: waiting for {self.num_in_flight} answers on their way", file=sys.stderr)
        await self._ledger.drain(self.name)
        await self._client.aclose()

    def _asked(self, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        """Every parameter is sent: what is left out is the server's choice, and it changes."""
        return {
            "messages": as_dicts(messages),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            self._place.preset.max_tokens_name: sampling.max_tokens,
            "seed": sampling.seed,
            **self._fixed,
        }

    def _payload(self, call: Call, sampling: Sampling) -> bytes:
        """One answer a request, since many servers ignore `n`."""
        body = {"model": call.model, **call.body, "stream": False}
        if self._place.preset.takes_seed:
            body["seed"] = (sampling.seed + 1_000_003 * call.index) % 2**31
        else:
            del body["seed"]
        return json.dumps(body, ensure_ascii=False).encode()

    async def _ask(self, call: Call, messages: Sequence[Message], sampling: Sampling) -> Answer:
        """Send requests until the table says that it is enough."""
        payload = self._payload(call, sampling)
        worst_case = self.price.worst_case(most_prompt_tokens(messages), sampling.max_tokens) if self.price else 0
        num_tries = 0
        while True:
            reply = await self._request(call, payload, worst_case, messages)
            then = reply.rule.then
            if then is Then.ANSWER and reply.answer is not None:
                return reply.answer
            if then is Then.FAIL:
                is_final = reply.rule.state is State.FAILED
                raise AnswerError(reply.rule.seen, reply.detail or reply.rule.meaning, is_final)
            if then is Then.RETRY:
                num_tries += 1
                if num_tries >= self._patience.max_tries:
                    raise AnswerError(
                        reply.rule.seen, f"{num_tries} tries; {reply.detail or reply.rule.meaning}", False
                    )
                await asyncio.sleep(self._patience.pause(num_tries - 1))

    async def _request(self, call: Call, payload: bytes, worst_case: int, messages: Sequence[Message]) -> Reply:
        """One request, noted before and after. What it says about the whole run is known before another one is sent."""
        currency = self.price.currency if self.price else ""
        await self._pool.sit_down()
        try:
            entry = await self._ledger.begin(call, worst_case, currency)
        except BaseException as error:
            if isinstance(error, AlignError):
                self._pool.stop(error)
            self._pool.leave()
            raise
        try:
            slot = await self._pool.acquire()
        except BaseException:
            self._ledger.settle(entry, Outcome(State.REFUSED, reason=NOT_SENT), currency)
            self._pool.leave()
            raise
        reply, wait_s = Reply(RULES["reset"], "cancelled"), None
        try:
            reply, wait_s = await self._client.send(slot.endpoint.url, payload)
            reply = self._checked(reply, messages)
            stop = self._stop(slot, reply, wait_s)
        finally:
            self._pool.report(slot, reply.rule, reply.detail, wait_s)
            outcome = self._outcome(reply)
            written = self._ledger.settle(entry, outcome, currency)
        await written
        if (outcome.cost or 0) > worst_case:
            self._note("answers that cost more than max_tokens allows (thoughts, perhaps), so a budget may be passed")
        if stop is not None:
            raise stop
        return reply

    def _checked(self, reply: Reply, messages: Sequence[Message]) -> Reply:
        """What the reply's own words do not show: a cut prompt, another model, missing counts, wrong settings."""
        answer = reply.answer
        if reply.rule.then is Then.ANSWER and answer is not None:
            own = self._count_tokens(messages) if self._count_tokens else fewest_prompt_tokens(messages)
            if answer.prompt_tokens is not None and answer.prompt_tokens < _LEAST_SHARE * own:
                detail = f"the prompt has at least {own} tokens, the server saw {answer.prompt_tokens}"
                return Reply(RULES["prompt_truncated"], detail, answer)
            self._has_answered = True
            if answer.prompt_tokens is None or answer.completion_tokens is None:
                self._note("answers without token counts, counted at their worst case")
            if not _is_same_model(self._place.model, answer.model):
                self._note(f"answers that name another model: {answer.model}")
        elif reply.rule.seen == "bad_request" and not self._has_answered:
            return self._refused_before_any_answer(reply)
        return reply

    def _refused_before_any_answer(self, reply: Reply) -> Reply:
        """Until something was answered, the settings may be wrong, and the rows must not be written off."""
        self._num_bad_requests += 1
        if self._num_bad_requests >= _FIRST_REFUSED:
            return Reply(RULES["no_request_taken"], reply.detail)
        return Reply(RULES["early_bad_request"], reply.detail)

    def _outcome(self, reply: Reply) -> Outcome:
        """What the ledger notes. A cost is known where the server counts tokens."""
        rule, answer, cost = reply.rule, reply.answer, None
        reason = "" if rule.state is State.ANSWERED else f"{rule.seen}: {reply.detail}" if reply.detail else rule.seen
        if self.price and answer and answer.prompt_tokens is not None and answer.completion_tokens is not None:
            cost = self.price.cost(answer.prompt_tokens, answer.cached_tokens or 0, answer.completion_tokens)
        elif rule.state is State.REFUSED or rule.seen == "bad_request":
            cost = 0
        return Outcome(rule.state, cost, reason, answer)

    def _stop(self, slot: Slot, reply: Reply, wait_s: float | None) -> AlignError | None:
        """The error that ends the run, if it has to end; all who wait for a slot get it too."""
        said = f"; the server says: {reply.detail}" if reply.detail else ""
        text = f"teacher {self.name}, {slot.endpoint.url}: {reply.rule.meaning}{said}. Every answer is kept"
        error: AlignError
        if reply.rule.then is Then.STOP_AUTH:
            error = AuthError(f"{text}; the same command goes on from there")
        elif reply.rule.then is Then.STOP_CONFIG:
            error = ConfigError(f"{text}; check base_url and model")
        elif reply.rule.then is Then.BACK_OFF and wait_s is not None and wait_s > LONGEST_S:
            error = UnreachableError(f"{text}; it asks to come back in {wait_s / 3600:.1f} hours")
        else:
            return None
        self._pool.stop(error)
        return error

    def _note(self, sentence: str) -> None:
        self.notes[sentence] += 1
        if self.notes[sentence] == 1:
            print(f"teacher {self.name}: {sentence}", file=sys.stderr, flush=True)


def _are_one_long_answer(answers: Sequence[Answer]) -> bool:
    """Two short answers may be equal by chance."""
    return len({answer.text for answer in answers}) == 1 and len(answers[0].text) > _LONG_CHARACTERS


def _is_same_model(asked: str, answered: str) -> bool:
    """Servers add a date, a tag or a path to the name, or leave one out."""
    asked, answered = (name.lower().rstrip("/").rsplit("/", 1)[-1] for name in (asked, answered))
    return not answered or answered.startswith(asked) or asked.startswith(answered)
