"""Chats, completions and models by the SDK."""

import pytest


def test_models(client, target):
    names = [model.id for model in client.models.list()]
    assert target.chat_model in names and target.embedding_model in names
    assert client.models.retrieve(target.chat_model).owned_by


def test_chat(client, target, say):
    answer = client.chat.completions.create(model=target.chat_model, messages=say("one two three"), max_tokens=32)
    choice = answer.choices[0]
    assert choice.message.role == "assistant" and choice.message.content
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert answer.system_fingerprint
    if target.is_test:
        assert choice.message.content == "You said: one two three"


def test_headers(client, target, say):
    raw = client.chat.completions.with_raw_response.create(model=target.chat_model, messages=say("x"), max_tokens=4)
    assert raw.headers["x-request-id"] and raw.headers["x-ashlar-model-root"].startswith("0x")
    for what in ("limit", "remaining", "reset"):
        assert raw.headers[f"x-ratelimit-{what}-requests"] and raw.headers[f"x-ratelimit-{what}-tokens"]
    assert raw.parse()._request_id == raw.headers["x-request-id"]


def test_text_parts_and_a_whole_conversation(client, target):
    answer = client.chat.completions.create(
        model=target.chat_model, max_completion_tokens=16, temperature=0,
        messages=[{"role": "system", "content": "Be brief."},
                  {"role": "user", "content": [{"type": "text", "text": "Hello "}, {"type": "text", "text": "there"}]}])
    again = [{"role": "user", "content": "x"}, answer.choices[0].message.model_dump(), {"role": "user", "content": "y"}]
    assert client.chat.completions.create(model=target.chat_model, messages=again, max_tokens=4).choices


def test_stream(client, target, say):
    stream = client.chat.completions.create(model=target.chat_model, messages=say("one two three"), max_tokens=32, seed=7,
                                            temperature=0, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])
    whole = client.chat.completions.create(model=target.chat_model, messages=say("one two three"), max_tokens=32, seed=7,
                                           temperature=0)
    assert text == whole.choices[0].message.content
    assert whole.usage == chunks[-1].usage


def test_two_choices(client, target, say):
    answer = client.chat.completions.create(model=target.chat_model, messages=say("a b"), n=2, max_tokens=8)
    assert [choice.index for choice in answer.choices] == [0, 1]
    stream = client.chat.completions.create(model=target.chat_model, messages=say("a b"), n=2, max_tokens=8, stream=True)
    assert {chunk.choices[0].index for chunk in stream} == {0, 1}


def test_stop_and_length(client, target, say, echoes):
    answer = client.chat.completions.create(model=target.chat_model, messages=say("a b c d"), stop=[" c", "zz"])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: a b", "stop")
    answer = client.chat.completions.create(model=target.chat_model, messages=say("a b c d"), max_tokens=3)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("You said: a ", "length")
    assert answer.usage.completion_tokens == 3


def test_log_probabilities(client, target, say):
    answer = client.chat.completions.create(model=target.chat_model, messages=say("a b"), max_tokens=4, logprobs=True,
                                            top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 3 and token.bytes for token in content)
    if target.is_test:
        assert "".join(token.token for token in content) == answer.choices[0].message.content


def test_completions(client, target):
    answer = client.completions.create(model=target.chat_model, prompt="one two", max_tokens=4, logprobs=1)
    assert answer.object == "text_completion" and answer.choices[0].text
    assert len(answer.choices[0].logprobs.tokens) == answer.usage.completion_tokens
    pieces = client.completions.create(model=target.chat_model, prompt="one two", max_tokens=4, stream=True)
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices)


@pytest.mark.parametrize("kind", ["text", "list"])
def test_embeddings(client, target, kind):
    given = "a text" if kind == "text" else ["a text", "another"]
    answer = client.embeddings.create(model=target.embedding_model, input=given)
    assert len(answer.data) == (1 if kind == "text" else 2) and answer.usage.prompt_tokens > 0
    floats = client.embeddings.create(model=target.embedding_model, input=given, encoding_format="float")
    for one, other in zip(answer.data, floats.data):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6) and one.index == other.index
