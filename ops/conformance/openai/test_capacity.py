"""Clients that leave, and more of them than there is room for."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest


def test_a_stream_that_is_left_frees_its_place(client, say, echoes):
    for _ in range(6):
        stream = client.chat.completions.create(model="test-slow", messages=say("word " * 100), stream=True)
        for count, _ in enumerate(stream):
            if count == 3:
                break
        stream.close()
        settled(client, say)


def settled(client, say):
    """Waits until both places are free again; the server hears of a closed connection, it is not told."""
    ends = time.monotonic() + 10
    while True:
        streams = []
        try:
            for _ in range(2):
                streams.append(client.chat.completions.create(model="test-slow", messages=say("x"), stream=True))
            return
        except openai.RateLimitError:
            assert time.monotonic() < ends, "a place is held by a client that left"
            time.sleep(0.05)
        finally:
            for stream in streams:
                stream.close()


def test_more_than_there_is_room_for(client, say, echoes):
    def ask(_):
        begun = time.monotonic()
        try:
            answer = client.chat.completions.create(model="test-slow", messages=say("word " * 20))
            return 200, answer.usage.total_tokens, None
        except openai.RateLimitError as error:
            return error.status_code, time.monotonic() - begun, error.response.headers["retry-after"]
    time.sleep(0.5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    answered = [answer for answer in answers if answer[0] == 200]
    refused = [answer for answer in answers if answer[0] == 429]
    assert len(answered) == 2 and len(refused) == 6, answers
    assert all(seconds < 1 and retry == "2" for _, seconds, retry in refused), refused


def test_many_at_once(client, target, say):
    def ask(number):
        answer = client.chat.completions.create(model=target.chat_model, messages=say(f"number {number}"), max_tokens=8)
        return answer.choices[0].message.content
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(16)))
    if target.is_test:
        assert answers == [f"You said: number {number}" for number in range(16)]
    assert all(isinstance(answer, str) for answer in answers)


@pytest.mark.parametrize("retries", [2])
def test_the_sdk_comes_again(target, say, echoes, retries):
    patient = openai.OpenAI(base_url=target.base_url, api_key=target.api_key, max_retries=retries)
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(patient.chat.completions.create, model="test-slow", messages=say("a b c")) for _ in range(3)]
        assert all(of.result().choices for of in asked)
