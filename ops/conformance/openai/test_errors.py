"""What is wrong comes as the SDK's own exceptions, with what to do."""

import httpx
import openai
import pytest


def test_a_wrong_key(target):
    for key in ("sk-wrong", target.api_key[:-1] + ("A" if target.api_key[-1] != "A" else "B"), "nobody:nothing-at-all"):
        with pytest.raises(openai.AuthenticationError) as caught:
            openai.OpenAI(base_url=target.base_url, api_key=key, max_retries=0).models.list()
        assert caught.value.code == "invalid_api_key" and caught.value.request_id


def test_an_access_key_is_a_key(target):
    if not (target.access_key and target.secret_key):
        pytest.skip("no access key was given")
    pair = f"{target.access_key}:{target.secret_key}"
    assert openai.OpenAI(base_url=target.base_url, api_key=pair).models.list().data
    basic = httpx.get(f"{target.base_url}/models", auth=(target.access_key, target.secret_key))
    assert basic.status_code == 200


def test_a_wrong_model(client, say):
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="no-such-model", messages=say("x"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_a_prompt_that_is_too_long(client, target, say):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=target.chat_model, messages=say("word " * 200_000))
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.parametrize("name, more", [
    ("temperature", {"temperature": 9}),
    ("logit_bias", {"logit_bias": {"1": 5}}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]}),
    ("response_format", {"response_format": {"type": "json_object"}}),
    ("max_tokens", {"max_tokens": 0}),
    ("made_up", {"extra_body": {"made_up": 1}}),
])
def test_a_parameter_that_would_not_be_obeyed(client, target, say, name, more):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=target.chat_model, messages=say("x"), **more)
    assert caught.value.param == name and name in caught.value.message


def test_embeddings_refuse_what_they_do_not_do(client, target):
    for param, more in (("dimensions", {"dimensions": 2}), ("input", {"input": [[1, 2]]}), ("input", {"input": []})):
        with pytest.raises(openai.BadRequestError) as caught:
            client.embeddings.create(**({"model": target.embedding_model, "input": "x"} | more))
        assert caught.value.param == param


def test_a_hundred_megabytes(client, target, say):
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model=target.chat_model, messages=say("x" * 100_000_000))
    assert caught.value.status_code == 413
    assert client.chat.completions.create(model=target.chat_model, messages=say("x"), max_tokens=2).choices


def test_fine_tuning_says_what_it_does(client):
    with pytest.raises(openai.APIStatusError) as caught:
        client.fine_tuning.jobs.create(model="x", training_file="file-x")
    assert caught.value.status_code in (400, 404, 501)


def test_a_provider_that_cheats(client, say, echoes):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="test-liar", messages=say("a b c"))
    assert caught.value.code == "provider_misconduct"
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model="test-liar", messages=say("a b c"), stream=True))
    assert caught.value.code == "provider_misconduct"


def test_nobody_runs_the_model(client, say, echoes):
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="test-gone", messages=say("x"))
    assert (caught.value.status_code, caught.value.response.headers["retry-after"]) == (503, "3")


def test_a_key_that_has_spent_its_cap(target, say, echoes):
    poor = openai.OpenAI(base_url=target.base_url, api_key=target.poor_key, max_retries=0)
    with pytest.raises(openai.RateLimitError) as caught:
        poor.chat.completions.create(model=target.chat_model, messages=say("x"))
    assert caught.value.code == "insufficient_quota"
