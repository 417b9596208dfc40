"""Files and batches by the SDK."""

import json
import time

import openai
import pytest


def lines(target, texts):
    requests = ({"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions",
                 "body": {"model": target.chat_model, "messages": [{"role": "user", "content": text}], "max_tokens": 8}}
                for number, text in enumerate(texts))
    return "".join(json.dumps(request) + "\n" for request in requests).encode()


def ended(client, batch):
    ends = time.monotonic() + 120
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < ends, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def test_a_file_comes_and_goes(client, target):
    content = lines(target, ["a", "ü"])
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    assert (file.filename, file.bytes, file.purpose) == ("requests.jsonl", len(content), "batch")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    assert file.id in [other.id for other in client.files.list(purpose="batch")]
    assert file.id not in [other.id for other in client.files.list(purpose="fine-tune")]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_pages(client):
    made = [client.files.create(file=(f"{n}.jsonl", b"{}\n"), purpose="fine-tune").id for n in range(5)]
    page = client.files.list(limit=2, purpose="fine-tune")
    assert page.has_more and len(page.data) == 2
    assert [file.id for file in page][:5] == made[::-1]
    for file in made:
        client.files.delete(file)


def test_lines_that_are_no_json_are_named(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.files.create(file=("bad.jsonl", b'{"a": 1}\n{"b": \n\n{}'), purpose="batch")
    assert [line["line"] for line in caught.value.body["lines"]] == [2, 3]


def test_a_large_file(client):
    content = b'{"text": "' + b"x" * 500_000 + b'"}\n'
    file = client.files.create(file=("large.jsonl", content * 40), purpose="fine-tune")
    assert client.files.content(file.id).read() == content * 40
    client.files.delete(file.id)


def test_a_batch(client, target, batches):
    file = client.files.create(file=("requests.jsonl", lines(target, ["one", "two", "word " * 200_000])), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h",
                                  metadata={"for": "conformance"})
    assert batch.request_counts.total == 3 and batch.metadata == {"for": "conformance"}
    batch = ended(client, batch)
    assert batch.status == "completed", batch
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 1)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["line-0", "line-1"]
    assert all(answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers)
    errors = [json.loads(line) for line in client.files.content(batch.error_file_id).text.splitlines()]
    assert errors[0]["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert batch.id in [other.id for other in client.batches.list(limit=5)]


def test_a_batch_is_refused_by_line(client, target, batches):
    content = lines(target, ["one", "two"]).replace(b"line-1", b"line-0").replace(b"max_tokens", b"max_token", 1)
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    with pytest.raises(openai.BadRequestError) as caught:
        client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert [line["line"] for line in caught.value.body["lines"]] == [1, 2]


def test_a_batch_is_cancelled(client, target, echoes):
    content = lines(target, ["word " * 100] * 50).replace(b"test-chat", b"test-slow")
    file = client.files.create(file=("requests.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")
    assert ended(client, batch).status == "cancelled"
