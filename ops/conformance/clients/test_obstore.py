"""obstore (Rust's object_store): coalesced ranges, conditional puts, bulk deletes, list with offset."""

import obstore
import pytest
from obstore.store import S3Store


@pytest.fixture
def store(target, bucket):
    return S3Store(bucket, endpoint=target.endpoint, access_key_id=target.access, secret_access_key=target.secret,
                   region=target.region, virtual_hosted_style_request=False, client_options={"allow_http": True})


def test_everyday(store, payload):
    body = payload(500_000)
    obstore.put(store, "d/a b", body)
    assert bytes(obstore.get(store, "d/a b").bytes()) == body
    assert obstore.head(store, "d/a b")["size"] == 500_000
    assert bytes(obstore.get_range(store, "d/a b", start=1000, length=77)) == body[1000:1077]
    ranges = obstore.get_ranges(store, "d/a b", starts=[0, 100, 499_990], ends=[10, 120, 500_000])
    assert [bytes(r) for r in ranges] == [body[:10], body[100:120], body[499_990:]]
    obstore.copy(store, "d/a b", "copy")
    obstore.rename(store, "copy", "renamed")
    assert bytes(obstore.get(store, "renamed").bytes()) == body
    obstore.delete(store, ["d/a b", "renamed"])
    with pytest.raises(FileNotFoundError):
        obstore.head(store, "renamed")


def test_multipart_and_attributes(store, payload):
    body = payload(16 * 1024 * 1024)
    obstore.put(store, "big", body, chunk_size=5 * 1024 * 1024, attributes={"Content-Type": "a/b", "colour": "red"})
    got = obstore.get(store, "big")
    assert got.attributes["Content-Type"] == "a/b" and bytes(got.bytes()) == body


def test_conditional_puts(store):
    first = obstore.put(store, "c", b"1", mode="create", use_multipart=False)
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "c", b"2", mode="create", use_multipart=False)
    obstore.put(store, "c", b"2", mode={"e_tag": first["e_tag"]}, use_multipart=False)
    with pytest.raises(obstore.exceptions.PreconditionError):
        obstore.put(store, "c", b"3", mode={"e_tag": first["e_tag"]}, use_multipart=False)
    with pytest.raises(obstore.exceptions.NotModifiedError):
        obstore.get(store, "c", options={"if_none_match": obstore.head(store, "c")["e_tag"]})


def test_lists(store):
    for n in range(60):
        obstore.put(store, f"l{n % 3}/k{n:03}", b"x")
    assert sum(len(page) for page in obstore.list(store, chunk_size=20)) == 60
    assert [e["path"] for e in obstore.list(store, prefix="l1", offset="l1/k051").collect()] == ["l1/k052", "l1/k055", "l1/k058"]
    top = obstore.list_with_delimiter(store)
    assert sorted(top["common_prefixes"]) == ["l0", "l1", "l2"]
    obstore.delete(store, [f"l{n % 3}/k{n:03}" for n in range(60)])
    assert obstore.list(store).collect() == []
