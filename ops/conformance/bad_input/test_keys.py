"""Keys that are too long, no text, or look like paths. Each is stored under exactly its name or refused."""

import os
import urllib.parse
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from stand.sigv4 import quote


@pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, "😀" * 256])
def test_longest_key(wire, bucket, stored, key):
    assert (answer := wire.object("PUT", bucket, key, body=b"x")).status in (200, 400), answer
    if answer.status == 200:
        assert wire.object("GET", bucket, key).body == b"x" and stored(bucket) == [key]


@pytest.mark.parametrize("key", ["k" * 1025, "é" * 512 + "x", "😀" * 256 + "x", "k" * 60_000])
def test_key_over_1024_bytes(wire, bucket, stored, refused, key):
    refused(wire.object("PUT", bucket, key, body=b"x"), xml=len(key) < 10_000)
    refused(wire.object("GET", bucket, key), xml=len(key) < 10_000)
    assert stored(bucket) == []


ODD = ["../escape", "a/../../escape", "..", ".", "./x", "a/./b", "a//b", "/lead", "trail/", "//", "a/..", "%2e%2e/x", "..\\x",
       "con", "nul\x00byte", "ctl\x01\x02\x1f", "del\x7f", "tab\tnl\ncr\r", "emoji-😀🦄", "é", "e\u0301", "\ufffe", "\u202egnp",
       "<&>\"'", "a b+c%20", "?x=y", "#frag", "*", "a;b", "k\u0000", " lead", "trail ", "$(id)", "\\", "{}[]|^`~", "\U0010ffff"]


@pytest.mark.parametrize("key", ODD, ids=[ascii(k).replace("/", "|") for k in ODD])
def test_odd_keys_round_trip_or_are_refused(wire, bucket, stored, refused, key):
    answer = wire.object("PUT", bucket, key, body=b"odd")
    if answer.status != 200:
        refused(answer)
        assert stored(bucket) == []
        return
    assert wire.object("GET", bucket, key).body == b"odd"
    listing = wire.call("GET", f"/{bucket}", [("list-type", "2"), ("encoding-type", "url")])
    root = ElementTree.fromstring(listing.body)
    keys = [urllib.parse.unquote_plus(e.text) for e in root.iter() if e.tag.rpartition("}")[2] == "Key"]
    assert keys == [key]
    plain = wire.call("GET", f"/{bucket}", [("list-type", "2")])
    assert plain.status == 200
    assert wire.object("DELETE", bucket, key).status == 204
    assert stored(bucket) == []


def test_no_file_escapes(wire, bucket):
    """Whatever a key says, no file of that name appears beside the data."""
    for depth in range(1, 12):
        wire.object("PUT", bucket, "../" * depth + "ashlar-escaped", body=b"x")
        wire.object("PUT", bucket, "..%2f" * depth + "ashlar-escaped", body=b"x")
    folder = Path(os.environ["CONFORMANCE_FOLDER"])
    for place in [folder, *folder.parents][:6] + [Path("/tmp"), Path("/")]:
        assert not (place / "ashlar-escaped").exists()


@pytest.mark.parametrize("raw", ["%ff", "a%c3", "%c0%af", "%ed%a0%80", "a%", "a%z", "%f8%88%80%80%80"])
def test_keys_that_are_no_utf8(wire, bucket, stored, refused, raw):
    answer = wire.call("PUT", f"/{bucket}/{raw}", body=b"x")
    if answer.status == 200:  # '%' taken literally is defensible, half a character is not.
        assert raw in ("a%", "a%z"), answer
        wire.call("DELETE", f"/{bucket}/{raw}")
    else:
        refused(answer, xml=False)
    assert stored(bucket) == []


@pytest.mark.parametrize("name", ["a", "ab", "A" * 10, "a" * 64, "a_b", "-abc", "abc-", "a..b", "192.168.5.4", "xn--abc", "a b", "é" * 5,
                                  "..", "a/../b", "abc.-d"])
def test_bucket_names(wire, refused, name):
    path = "/" + quote(name, "/")
    answer = wire.call("PUT", path)
    if answer.status == 200:
        wire.call("DELETE", path)
        pytest.fail(f"bucket {name!r} was made")
    refused(answer)


@pytest.mark.parametrize("query", [
    [("list-type", "2"), ("max-keys", "-1")], [("list-type", "2"), ("max-keys", "x")], [("max-keys", "99999999999999999999")],
    [("list-type", "2"), ("continuation-token", "%%%")], [("list-type", "2"), ("encoding-type", "rot13")],
    [("uploads", ""), ("max-uploads", "x")], [("versions", ""), ("version-id-marker", "x")],
])
def test_list_arguments(wire, bucket, refused, query):
    refused(wire.call("GET", f"/{bucket}", query), statuses=(400,))
