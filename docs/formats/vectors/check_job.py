#!/usr/bin/env python3
"""Checks job.json with a second implementation of job.md, written from the text alone.

With --write it makes the file anew. Needs: pip install pycryptodome
"""

import json
import pathlib
import struct
import sys

from Crypto.Hash import keccak as _keccak

FILE = pathlib.Path(__file__).with_name("job.json")


def keccak(data):
    return _keccak.new(digest_bits=256, data=data).digest()


def text(value):
    data = value.encode()
    return struct.pack(">I", len(data)) + data


def listed(items):
    return struct.pack(">I", len(items)) + b"".join(items)


def statement(of):
    inputs = [text(i["bucket"]) + text(i["key"]) + bytes.fromhex(i["version"] + i["content_root"]) for i in of["inputs"]]
    data = b"\x16" + struct.pack(">H", of["kind"])
    data += text(of["principal"]) + text(of["target"]) + text(of["question"])
    data += listed(inputs) + listed([bytes.fromhex(root) for root in of["models"]])
    data += listed([text(name) + text(value) for name, value in of["options"]])
    return keccak(data + struct.pack(">Q", int(of["seed"])))


def job(of):
    if of["client_key"] is None:
        return statement(of)
    return keccak(b"\x17" + text(of["principal"]) + text(of["client_key"]))


def attempt(job, number):
    return job if number == 1 else keccak(b"\x19" + job + struct.pack(">I", number))


def input_root(units):
    items = [struct.pack(">Q", int(unit["rows"])) + bytes.fromhex(unit["content_root"]) for unit in units]
    return keccak(b"\x18" + listed(items))


def made():
    root = lambda name: keccak(name.encode()).hex()
    entry = lambda bucket, key, version: {
        "bucket": bucket, "key": key, "version": f"{version:032x}", "content_root": root(key)
    }
    plain = {
        "kind": 3, "principal": "u-1", "target": "s3://out/labels", "question": "ai_classify(body, ['ham', 'spam'])",
        "inputs": [entry("mail", "a", 1), entry("mail", "b/ü", 2**128 - 1)],
        "models": sorted([root("model"), root("other model")]),
        "options": [["level", "sampled"], ["temperature", "0"]], "seed": "7", "client_key": None,
    }
    bare = {
        "kind": 1, "principal": "u", "target": "t", "question": "q", "inputs": [], "models": [], "options": [],
        "seed": str(2**64 - 1), "client_key": None,
    }
    jobs = [plain, bare, {**plain, "client_key": "nightly-2026-11-22"}]
    jobs = [{**of, "statement": statement(of).hex(), "job": job(of).hex()} for of in jobs]
    units = [{"rows": "3", "content_root": root("unit 0")}, {"rows": str(2**64 - 1), "content_root": root("unit 1")}]
    inputs = [{"units": units[:n], "input_root": input_root(units[:n]).hex()} for n in range(3)]
    about = "Vectors of docs/formats/job.md. Bytes in hexadecimal, 64-bit integers as text."
    numbers = [1, 2, 2**32 - 1]
    attempts = [{"job": jobs[0]["job"], "number": n, "name": attempt(bytes.fromhex(jobs[0]["job"]), n).hex()} for n in numbers]
    return {"about": about, "jobs": jobs, "inputs": inputs, "attempts": attempts}


def main():
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="ascii")
    vectors = json.loads(FILE.read_text(encoding="ascii"))
    for of in vectors["jobs"]:
        if (statement(of).hex(), job(of).hex()) != (of["statement"], of["job"]):
            sys.exit(f"another name for {of}")
    for of in vectors["inputs"]:
        if input_root(of["units"]).hex() != of["input_root"]:
            sys.exit(f"another root for {of}")
    if vectors != made():
        sys.exit("the file is not what --write makes")
    print(f"{len(vectors['jobs'])} jobs and {len(vectors['inputs'])} input roots, every one as it must be")


main()
