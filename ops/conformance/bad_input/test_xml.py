"""XML and JSON bodies that are broken, of another kind, huge, deep, or bombs."""

import base64
import hashlib
import time

import pytest

LAUGHS = ('<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(98 + n)} "{("&" + chr(97 + n) + ";") * 10}">' for n in range(12)) + "]>")
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]>'

# (method, query, a body that would be right, the element whose text a bomb goes into)
FORMS = {
    "delete": ("POST", [("delete", "")], "<Delete><Object><Key>k</Key></Object></Delete>"),
    "versioning": ("PUT", [("versioning", "")], "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"),
    "tagging": ("PUT", [("tagging", "")], "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"),
    "cors": ("PUT", [("cors", "")], "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>k</AllowedOrigin>"
                                    "</CORSRule></CORSConfiguration>"),
}

BREAK = {
    "empty": lambda good: "",
    "garbage": lambda good: "this is no xml",
    "half": lambda good: good[: len(good) // 2],
    "other root": lambda good: "<Other>" + good + "</Other>",
    "wrong nesting": lambda good: good.replace("><", "><b><i></b></i><", 1),
    "laughs": lambda good: LAUGHS + good.replace(">k<", ">&m;<").replace(">Enabled<", ">&m;<"),
    "external": lambda good: EXTERNAL + good.replace(">k<", ">&x;<").replace(">Enabled<", ">&x;<"),
    "deep": lambda good: "<a>" * 100_000 + "</a>" * 100_000,
    "binary": lambda good: "\x00\x01\x02" + good,
    "huge": lambda good: good.replace(">k<", ">" + "k" * 6_000_000 + "<").replace(">Enabled<", ">" + "k" * 6_000_000 + "<"),
}


def send(wire, bucket, method, query, text: str, path=""):
    body = text.encode("utf-8", "surrogateescape")
    return wire.call(method, f"/{bucket}{path}", query, {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}, body)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", BREAK)
def test_broken_xml(wire, bucket, refused, form, how):
    method, query, good = FORMS[form]
    start = time.monotonic()
    answer = send(wire, bucket, method, query, BREAK[how](good))
    assert time.monotonic() - start < 10, "it took long enough to be an attack"
    if (how, form, answer.status) == ("huge", "delete", 200):
        assert b"<Error>" in answer.body  # One key too long among others is that key's error.
    else:
        refused(answer, statuses=(400, 411, 413))
    assert b"root:" not in answer.body


@pytest.mark.parametrize("how", ["garbage", "half", "other root", "laughs", "external", "deep"])
def test_broken_complete(wire, bucket, refused, stored, how):
    started = wire.call("POST", f"/{bucket}/k", [("uploads", "")])
    upload = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    good = "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>k</ETag></Part></CompleteMultipartUpload>"
    refused(send(wire, bucket, "POST", [("uploadId", upload)], BREAK[how](good), "/k"), statuses=(400,))
    assert stored(bucket) == []


def test_create_bucket_with_broken_xml(wire, refused, bucket_name):
    for how in ("garbage", "half", "laughs", "external"):
        good = "<CreateBucketConfiguration><LocationConstraint>k</LocationConstraint></CreateBucketConfiguration>"
        refused(send(wire, bucket_name, "PUT", [], BREAK[how](good)), statuses=(400,))
    assert wire.call("HEAD", f"/{bucket_name}").status == 404


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"Version":"2012-10-17"}', "{" * 50_000, "[" * 100_000, '{"Statement":[{"Effect":"Maybe"}]}',
                                  '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:NoSuch*&","Resource":"x"}]}',
                                  '{"Statement":"' + "x" * 30_000 + '"}'])
def test_broken_policy(wire, bucket, refused, text):
    refused(send(wire, bucket, "PUT", [("policy", "")], text), statuses=(400, 411, 413))
    assert wire.call("GET", f"/{bucket}", [("policy", "")]).status == 404


def test_1001_deletes(wire, bucket, refused):
    body = "<Delete>" + "".join(f"<Object><Key>k{n}</Key></Object>" for n in range(1001)) + "</Delete>"
    refused(send(wire, bucket, "POST", [("delete", "")], body), "MalformedXML", statuses=(400,))


@pytest.mark.parametrize("tags", ["a=" + "v" * 257, "k" * 129 + "=v", "&".join(f"k{n}=v" for n in range(11)), "a=1&a=2"])
def test_tags_over_their_limits(wire, bucket, refused, stored, tags):
    refused(wire.object("PUT", bucket, "k", headers={"x-amz-tagging": tags}, body=b"x"), statuses=(400,))
    assert stored(bucket) == []
