"""The rule table: every line of it, through a real connection to a server that misbehaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from align.errors import AnswerError, AuthError, ConfigError, UnreachableError
from align.teachers.base import Completion
from align.teachers.endpoint.rules import RULES
from tests.teachers.asking import HURRIED, ask, closed_port, entries, place
from tests.teachers.server import Reply, Server, answer, error


def first_then_fine(reply: Reply, num_bad: int = 1):
    """Bad replies first, then answers."""
    return lambda request: reply if request.number < num_bad else answer()


ASKED_AGAIN = {
    "reset": (Reply(is_reset=True), "unknown"),
    "truncated_body": (Reply(answer().body, num_bytes=40), "unknown"),
    "gateway": (error(502), "unknown"),
    "gateway 504": (error(504), "unknown"),
    "gateway 524": (error(524), "unknown"),
    "request_timeout": (error(408), "unknown"),
    "server_error": (error(500), "refused"),
    "other_status": (error(418), "refused"),
    "html": (Reply(b"<!DOCTYPE html><html>Welcome</html>"), "unknown"),
    "not_json": (Reply(b"all is well"), "unknown"),
    "not_json list": (Reply(b"[1, 2]"), "unknown"),
    "error_in_reply": (Reply({"error": {"message": "upstream died"}}), "unknown"),
    "gateway in reply": (Reply({"error": {"message": "upstream died", "code": 502}}), "unknown"),
    "no_choices": (answer(choices=[]), "unknown"),
    "no_content": (answer(None), "unknown"),
    "no_content blank": (answer("   \n "), "unknown"),
    "no_content only thoughts": (answer("<think>so</think>"), "unknown"),
    "interrupted": (answer("half", "insufficient_system_resource"), "unknown"),
    "interrupted abort": (answer("half", "abort"), "unknown"),
    "no_finish_reason": (answer("half", None), "unknown"),
    "rate_limited": (error(429), "refused"),
    "rate_limited seconds": (error(429, headers={"Retry-After": "0.01"}), "refused"),
    "rate_limited date": (error(429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), "refused"),
    "rate_limited nonsense": (error(429, headers={"Retry-After": "soon"}), "refused"),
    "overloaded": (error(503), "refused"),
    "overloaded 529": (error(529), "refused"),
}


@pytest.mark.parametrize("case", ASKED_AGAIN)
def test_it_is_booked_and_asked_again(tmp_path, case):
    reply, state = ASKED_AGAIN[case]
    with Server(first_then_fine(reply)) as server:
        (completion,) = ask(tmp_path, place(server.url))
    assert isinstance(completion, Completion) and completion.text == "fine"
    assert entries(tmp_path, "state") == [state, "answered"]
    slug = case.split(" ")[0]
    assert entries(tmp_path, "reason")[0].startswith(slug) and slug in RULES


PAID = ("reset", "truncated_body", "gateway", "html", "no_choices")


@pytest.mark.parametrize("case", [*PAID, "server_error", "rate_limited"])
def test_what_may_have_been_paid_for_is_counted_at_its_worst_case_and_a_refusal_is_not(tmp_path, case):
    with Server(first_then_fine(ASKED_AGAIN[case][0])) as server:
        ask(tmp_path, place(server.url))
    first, second = entries(tmp_path, "cost")
    # A prompt of at most 64 + 5 + 16 tokens at 2, 40 of completion at 8; 12 and 3 where the server counts.
    counted = (85 * 2 + 40 * 8) * 1000 if case in PAID else 0
    assert (first, second) == ((12 * 2 + 3 * 8) * 1000 if case == "no_choices" and first != counted else counted, 48000)


@pytest.mark.parametrize("case", ["reset", "truncated_body", "gateway", "server_error", "html", "no_content"])
def test_it_is_asked_a_few_times_and_then_the_call_fails_but_not_for_good(tmp_path, case):
    patient = replace(HURRIED, unreachable_s=60.0)
    with Server(lambda request: ASKED_AGAIN[case][0]) as server:
        (failed,) = ask(tmp_path, place(server.url), patience=patient)
        assert isinstance(failed, AnswerError)
        assert (failed.reason, failed.is_final) == (case, False)
        assert len(server.requests) == 3
        ask(tmp_path, place(server.url), patience=patient)
        assert len(server.requests) == 6


def test_a_reply_that_does_not_come_in_time_is_an_unknown_outcome(tmp_path):
    with Server(first_then_fine(Reply(answer().body, delay_s=30))) as server:
        (completion,) = ask(tmp_path, place(server.url), patience=replace(HURRIED, reply_s=0.2))
    assert isinstance(completion, Completion)
    assert entries(tmp_path, "state", "reason") == [("unknown", "timeout"), ("answered", "")]


@pytest.mark.parametrize(
    ("url", "slug"),
    [
        (f"http://127.0.0.1:{closed_port()}/v1", "connection_refused"),
        ("http://nowhere.invalid/v1", "dns"),
        ("https", "tls"),
    ],
    ids=["connection_refused", "dns", "tls"],
)
def test_what_was_never_sent_costs_nothing_and_the_run_ends_when_nobody_can_be_reached(tmp_path, url, slug):
    with Server(lambda request: answer()) as server:
        url = server.url.replace("http:", "https:") if url == "https" else url
        (ended,) = ask(tmp_path, place(url))
        assert not server.requests
    assert isinstance(ended, UnreachableError) and ended.exit_code == 69
    assert RULES[slug].meaning in str(ended) and "the same command goes on from there" in str(ended)
    booked = entries(tmp_path, "state", "cost", "reason")
    assert len(booked) >= 3
    assert {(state, cost, reason.split(":")[0]) for state, cost, reason in booked} == {("refused", 0, slug)}


def test_a_host_that_takes_no_connection_costs_nothing(tmp_path):
    """Its queue of connections is full, so that a further one is neither taken nor refused."""
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        address = listening.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        (ended,) = ask(tmp_path, place(f"http://127.0.0.1:{address[1]}/v1"), patience=replace(HURRIED, connect_s=0.1))
        for one in waiting:
            one.close()
    assert isinstance(ended, UnreachableError)
    assert {(state, reason.split(":")[0]) for state, reason in entries(tmp_path, "state", "reason")} == {
        ("refused", "connect_timeout")
    }


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_prompt_fails_alone_with_its_reason_and_for_good(tmp_path, status):
    def behave(request):
        return error(status, "Content Exists Risk") if request.prompt == "bad" else answer()

    with Server(behave) as server:
        ask(tmp_path, place(server.url), "good")
        good, bad = ask(tmp_path, place(server.url), "better", "bad", concurrency=1)
        assert isinstance(good, Completion) and isinstance(bad, AnswerError)
        assert (bad.reason, bad.detail, bad.is_final) == ("bad_request", "Content Exists Risk", True)
        num_requests = len(server.requests)
        (again,) = ask(tmp_path, place(server.url), "bad")
        assert isinstance(again, AnswerError) and again.detail == "Content Exists Risk"
        assert len(server.requests) == num_requests
        ask(tmp_path, place(server.url), "bad", open_with={"asks_failed_again": True})
        assert len(server.requests) == num_requests + 1


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": {"message": "Too long", "type": "x"}}, "Too long"),
        ({"error": "Too long"}, "Too long"),
        ({"code": 20015, "msg": "Too long"}, "Too long"),
        ({"detail": "Too long"}, "Too long"),
        ({"detail": [{"loc": ["body"], "msg": "Too long"}]}, '{"detail": [{"loc": ["body"], "msg": "Too long"}]}'),
        (b"Too long", "Too long"),
    ],
    ids=["OpenAI", "text", "SiliconFlow", "FastAPI", "FastAPI list", "plain"],
)
def test_what_the_server_says_is_found_in_each_shape_of_error(tmp_path, body, detail):
    with Server(lambda request: Reply(body, status=400)) as server:
        (failed,) = ask(tmp_path, place(server.url))
    assert isinstance(failed, AnswerError) and failed.detail == detail


def test_when_none_of_the_first_requests_is_taken_the_settings_are_wrong_and_no_row_is_written_off(tmp_path):
    with Server(lambda request: error(400, "Model Not Exist")) as server:
        results = ask(tmp_path, place(server.url), *map(str, range(20)), concurrency=2)
    ended = [one for one in results if isinstance(one, ConfigError)]
    assert ended and "Model Not Exist" in str(ended[0])
    assert all(not one.is_final for one in results if isinstance(one, AnswerError))
    assert len(server.requests) <= 6
    assert set(entries(tmp_path, "state")) == {"refused"}


@pytest.mark.parametrize(
    ("reply", "slug"),
    [
        (error(401, "Authentication Fails"), "bad_key"),
        (error(402, "Insufficient Balance"), "no_balance"),
        (error(403), "forbidden"),
        (error(429, "You exceeded your current quota", code="insufficient_quota"), "no_quota"),
        (error(400, "Access denied", code="Arrearage"), "no_quota"),
    ],
    ids=["401", "402", "403", "429 quota", "400 arrearage"],
)
def test_no_key_or_no_money_ends_the_run_with_exit_code_4_and_it_goes_on_later(tmp_path, reply, slug):
    with Server(lambda request: reply) as server:
        results = ask(tmp_path, place(server.url), *"abcdefgh", concurrency=2)
        assert all(isinstance(one, AuthError) and one.exit_code == 4 for one in results)
        assert RULES[slug].meaning in str(results[0]) and server.url in str(results[0])
        assert len(server.requests) <= 2
    with Server(lambda request: answer()) as server:
        assert isinstance(ask(tmp_path, place(server.url, same_teacher=True))[0], Completion)


@pytest.mark.parametrize(
    ("reply", "slug"),
    [(error(404, "no such model"), "not_found"), (error(405), "not_found"), (Reply(b"", 308), "redirect")],
    ids=["404", "405", "308"],
)
def test_a_wrong_url_or_model_ends_the_run_as_a_wrong_setting(tmp_path, reply, slug):
    with Server(lambda request: reply) as server:
        (ended,) = ask(tmp_path, place(server.url))
    assert isinstance(ended, ConfigError) and RULES[slug].meaning in str(ended)
    assert entries(tmp_path, "state") == ["refused"]


def test_a_reply_larger_than_any_answer_is_not_read_to_its_end(tmp_path):
    with Server(lambda request: Reply(b" " * (17 * 1024 * 1024))) as server:
        (failed,) = ask(tmp_path, place(server.url))
    assert isinstance(failed, AnswerError) and failed.reason == "too_large"
    assert entries(tmp_path, "state", "cost") == [("failed", (85 * 2 + 40 * 8) * 1000)]


@pytest.mark.parametrize("finish_reason", ["stop", "length", "content_filter", "tool_calls", "function_call", "novel"])
def test_every_finish_reason_is_kept_and_only_stop_is_a_whole_answer(tmp_path, finish_reason):
    with Server(lambda request: answer("some text", finish_reason)) as server:
        (completion,) = ask(tmp_path, place(server.url))
        assert isinstance(completion, Completion)
        assert (completion.text, completion.finish_reason) == ("some text", finish_reason)
        assert ask(tmp_path, place(server.url)) == [completion]
        assert len(server.requests) == 1


def test_blank_lines_keep_a_request_alive(tmp_path):
    slow = Reply(answer().body, num_blank_lines=40, blank_line_s=0.01)
    with Server(lambda request: slow) as server:
        (completion,) = ask(tmp_path, place(server.url), patience=replace(HURRIED, connect_s=0.1))
    assert isinstance(completion, Completion) and completion.text == "fine"
    assert entries(tmp_path, "state") == ["answered"]


def test_a_text_that_no_file_can_hold_is_mended(tmp_path):
    body = b'{"choices": [{"message": {"content": "half \\ud83d, nul \\u0000"}, "finish_reason": "stop"}]}'
    with Server(lambda request: Reply(body)) as server:
        (completion,) = ask(tmp_path, place(server.url))
        assert completion.text == "half ?, nul \0"
        assert ask(tmp_path, place(server.url)) == [completion]


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "12"}])
def test_an_answer_without_token_counts_is_kept_counted_at_its_worst_case_and_said_once(tmp_path, usage, capfd):
    with Server(lambda request: answer(usage=usage)) as server:
        results = ask(tmp_path, place(server.url), "a", "b")
    assert all(isinstance(one, Completion) and one.prompt_tokens == 0 for one in results)
    assert entries(tmp_path, "state", "cost")[0] == ("answered", ((64 + 1 + 16) * 2 + 40 * 8) * 1000)
    assert capfd.readouterr().err.count("without token counts") == 1


@pytest.mark.parametrize(
    ("echoed", "is_same"),
    [("m", True), ("m-2026-07-31", True), ("org/M", True), ("", True), ("another", False)],
)
def test_another_model_in_the_reply_is_recorded_and_said_once(tmp_path, echoed, is_same, capfd):
    with Server(lambda request: answer(model=echoed)) as server:
        ask(tmp_path, place(server.url), "a", "b")
    assert entries(tmp_path, "answered_by") == [echoed, echoed]
    assert capfd.readouterr().err.count("name another model: another") == (0 if is_same else 1)


def test_a_prompt_that_the_server_cut_fails_and_is_paid_for(tmp_path):
    usage = {"prompt_tokens": 2050, "completion_tokens": 3}
    long = "many words of a long prompt " * 1000
    with Server(lambda request: answer(usage=usage)) as server:
        short, cut = ask(tmp_path, place(server.url), "short", long)
    assert isinstance(short, Completion) and isinstance(cut, AnswerError)
    assert cut.reason == "prompt_truncated" and "at least 6000 tokens, the server saw 2050" in cut.detail
    assert sorted(entries(tmp_path, "state", "cost")) == [("answered", 4_124_000), ("failed", 4_124_000)]


def test_a_tokenizer_of_ones_own_finds_smaller_cuts(tmp_path):
    with Server(lambda request: answer()) as server:
        (cut,) = ask(tmp_path, place(server.url), count_tokens=lambda messages: 14)
        assert isinstance(cut, AnswerError) and cut.reason == "prompt_truncated"


def test_a_server_that_wants_to_be_left_alone_for_a_day_ends_the_run(tmp_path):
    with Server(lambda request: error(429, "daily limit", {"Retry-After": "86400"})) as server:
        (ended,) = ask(tmp_path, place(server.url))
    assert isinstance(ended, UnreachableError) and "asks to come back in 24.0 hours" in str(ended)
    assert len(server.requests) == 1


def test_a_refused_call_is_asked_as_often_as_it_takes(tmp_path):
    patient = replace(HURRIED, unreachable_s=60.0)
    with Server(first_then_fine(error(429), num_bad=4)) as server:
        (completion,) = ask(tmp_path, place(server.url), patience=patient)
    assert isinstance(completion, Completion)
    assert entries(tmp_path, "state") == ["refused"] * 4 + ["answered"]


def test_every_line_of_the_table_is_seen_in_a_test():
    text = Path(__file__).read_text(encoding="utf-8")
    elsewhere = {"stop", "length", "content_filter", "other_finish", "early_bad_request", "no_request_taken"}
    assert [slug for slug in RULES if f'"{slug}"' not in text and slug not in elsewhere] == []
