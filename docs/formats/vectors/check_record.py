#!/usr/bin/env python3
"""Checks record.json with a second implementation of record.md, written from the text alone.

Encodes every record from its fields, decodes it strictly, refuses every byte string that is listed as no record, and
recomputes manifest roots, metadata digests, salts and leaves.

Needs: pip install blake3 pycryptodome
"""

import json
import pathlib
import re
import struct
import sys

from blake3 import blake3
from Crypto.Hash import keccak as _keccak

CONTEXT = "ashlar 2026-11 log salt v1"
NAMES = {1: "put", 2: "mark", 3: "remove", 4: "bucket set", 5: "bucket removed", 6: "cluster map"}
DIGESTS = ["content_root", "object_root", "manifest_root", "metadata_digest"]


def keccak(data):
    return _keccak.new(digest_bits=256, data=data).digest()


def encode(fields):
    out = struct.pack(">BBQ", 1, fields["operation"], fields["time"])
    out += bytes.fromhex(fields["version"]) + struct.pack(">Q", fields["length"])
    out += b"".join(bytes.fromhex(fields[name]) for name in DIGESTS)
    for name in (fields["bucket"].encode(), fields["key"].encode()):
        out += struct.pack(">H", len(name)) + name
    return out


def is_bucket(name):
    address = name.count(".") == 3 and all(part.isdigit() and int(part) < 256 for part in name.split("."))
    shape = re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", name)
    return bool(shape) and not address and not any(joint in name for joint in ("..", ".-", "-."))


def decode(data):
    """The fields of a record, or ValueError."""
    if len(data) < 166:
        raise ValueError("too short")
    form, operation, time = struct.unpack(">BBQ", data[:10])
    if form != 1 or operation not in NAMES:
        raise ValueError("format or operation")
    fields = {"operation": operation, "time": time, "version": data[10:26].hex()}
    (fields["length"],) = struct.unpack(">Q", data[26:34])
    for index, name in enumerate(DIGESTS):
        fields[name] = data[34 + 32 * index : 66 + 32 * index].hex()
    at = 162
    for name in ("bucket", "key"):
        if len(data) < at + 2:
            raise ValueError("too short")
        (length,) = struct.unpack(">H", data[at : at + 2])
        if len(data) < at + 2 + length:
            raise ValueError("too short")
        fields[name] = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
    if at != len(data):
        raise ValueError("too long")
    of_version, of_object = operation in (1, 2, 3), operation in (1, 3)
    applies = {
        "version": of_version,
        "length": of_object,
        "content_root": of_object,
        "object_root": of_object,
        "manifest_root": operation == 1,
        "metadata_digest": operation in (1, 2, 4, 6),
    }
    for name, does in applies.items():
        value = fields[name]
        if not does and (value != 0 if isinstance(value, int) else int(value, 16) != 0):
            raise ValueError(name + " does not apply")
    if (operation != 6) != is_bucket(fields["bucket"]) or (operation == 6 and fields["bucket"]):
        raise ValueError("bucket")
    if of_version != (1 <= len(fields["key"].encode()) <= 1024) or (not of_version and fields["key"]):
        raise ValueError("key")
    return fields


def listed(pairs):
    names = [name for name, _ in pairs]
    assert names == sorted(set(names)), "names in byte order, none twice"
    each = (struct.pack(">H", len(n)) + n + struct.pack(">I", len(v)) + v for n, v in pairs)
    return blake3(b"".join(each)).digest()


def check_record(vector):
    data = bytes.fromhex(vector["record"])
    assert encode(vector["fields"]) == data and decode(data) == vector["fields"], vector["what"]


def check_refused(vector):
    try:
        decode(bytes.fromhex(vector["bytes"]))
    except (ValueError, UnicodeDecodeError):
        return
    raise AssertionError("accepted: " + vector["what"])


def check_manifest(vector):
    data = b"\x13" + struct.pack(">I", len(vector["parts"]))
    for part in vector["parts"]:
        data += struct.pack(">I", part["number"]) + bytes.fromhex(part["blob"])
        data += struct.pack(">Q", part["length"]) + bytes.fromhex(part["blob_root"])
    assert keccak(data).hex() == vector["manifest_root"]


def check_digest(vector):
    pairs = [(name.encode(), value.encode()) for name, value in vector["pairs"]]
    assert listed(pairs).hex() == vector["metadata_digest"], vector["what"]


def check_rows(vector):
    rows = [(bytes.fromhex(key), bytes.fromhex(value)) for key, value in vector["rows"]]
    assert listed(rows).hex() == vector["metadata_digest"]


def check_entry(vector):
    key = blake3(bytes.fromhex(vector["namespace_key"]), derive_key_context=CONTEXT).digest()
    assert key.hex() == vector["salt_key"]
    place = struct.pack(">QI", vector["position"], vector["index"])
    salt = blake3(place, key=key).digest()
    assert salt.hex() == vector["salt"]
    where = struct.pack(">Q", vector["chain_id"]) + bytes.fromhex(vector["registry"])
    where += bytes.fromhex(vector["namespace"])
    leaf = keccak(b"\x10" + where + place + keccak(salt + bytes.fromhex(vector["record"])))
    assert leaf.hex() == vector["leaf"]


def main():
    vectors = json.loads(pathlib.Path(__file__).with_name("record.json").read_text())
    checks = {
        "records": check_record,
        "refused": check_refused,
        "manifests": check_manifest,
        "versions": check_digest,
        "buckets": check_rows,
        "entries": check_entry,
    }
    for kind, check in checks.items():
        assert vectors[kind], kind
        for vector in vectors[kind]:
            check(vector)
    print(", ".join("%d %s" % (len(vectors[kind]), kind) for kind in checks) + " agree")


if __name__ == "__main__":
    sys.exit(main())
