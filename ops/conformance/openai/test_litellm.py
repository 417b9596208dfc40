"""litellm, which speaks to servers like this one under the name openai."""

import litellm
import pytest


@pytest.fixture
def server(target):
    return {"api_base": target.base_url, "api_key": target.api_key, "num_retries": 0}


def test_chat_and_stream(server, target, say):
    answer = litellm.completion(model=f"openai/{target.chat_model}", messages=say("one two"), max_tokens=16, **server)
    assert answer.choices[0].message.content and answer.usage.total_tokens > 0
    pieces = litellm.completion(model=f"openai/{target.chat_model}", messages=say("one two"), max_tokens=16, stream=True,
                                stream_options={"include_usage": True}, **server)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    if target.is_test:
        assert text == answer.choices[0].message.content == "You said: one two"
    assert text


def test_text_completion(server, target):
    answer = litellm.text_completion(model=f"text-completion-openai/{target.chat_model}", prompt="one two", max_tokens=4, **server)
    assert answer.choices[0].text


def test_embeddings(server, target):
    answer = litellm.embedding(model=f"openai/{target.embedding_model}", input=["a", "b"], **server)
    assert len(answer.data) == 2 and len(answer.data[0]["embedding"]) > 1


def test_errors(server, target, say):
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(model="openai/no-such-model", messages=say("x"), **server)
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(model=f"openai/{target.chat_model}", messages=say("x"), **(server | {"api_key": "sk-wrong"}))
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(model=f"openai/{target.chat_model}", messages=say("word " * 200_000), **server)
