#!/usr/bin/env python3
"""Checks transcript.json with a second implementation of transcript.md, written from the text alone.

With --write it makes the file anew. Needs: pip install pycryptodome
"""

import json
import pathlib
import struct
import sys

from Crypto.Hash import keccak as _keccak

FILE = pathlib.Path(__file__).with_name("transcript.json")


def keccak(data):
    return _keccak.new(digest_bits=256, data=data).digest()


def encode(event):
    kind, *fields = event
    if kind == "request":
        return b"\x01" + bytes.fromhex(fields[0])
    if kind == "token":
        return struct.pack(">BII", 2, *fields)
    if kind == "text":
        return struct.pack(">BII", 3, fields[0], ord(fields[1]))
    if kind == "finish":
        return struct.pack(">BIB", 4, *fields)
    if kind == "output":
        return struct.pack(">BQ", 5, int(fields[0])) + bytes.fromhex(fields[1])
    if kind == "usage":
        return struct.pack(">BQQ", 6, *map(int, fields))
    raise ValueError(kind)


def run(transcript):
    place = bytes.fromhex(transcript["lock"]) + bytes.fromhex(transcript["job"])
    place += struct.pack(">IQ", int(transcript["shard"]), int(transcript["fence"]))
    head = keccak(b"\x14" + place)
    heads, joined = [head], b""
    for event in transcript["events"]:
        encoded = encode(event)
        joined += encoded
        head = keccak(b"\x15" + head + encoded)
        heads.append(head)
    return {**transcript, "encoded": joined.hex(), "heads": [head.hex() for head in heads]}


def made():
    lock, job = keccak(b"lock").hex(), keccak(b"job").hex()
    most = str(2**64 - 1)
    request = ["request", keccak(b"request").hex()]
    chat = [request]
    chat += [["token", 0, 1], ["token", 1, 2**32 - 1], ["token", 0, 0], ["finish", 1, 2], ["finish", 0, 1]]
    chat += [["usage", "11", "3"], request, ["finish", 127, 6], ["usage", "0", "0"]]
    text = [request, *(["text", 0, scalar] for scalar in "Grüße, 世界 🧱\n\u0000\U0010ffff"), ["finish", 0, 3]]
    text += [["text", 5, "e"], ["text", 5, "\u0301"], ["finish", 5, 4], ["usage", most, most]]
    rows = [request, ["output", "0", keccak(b"row").hex()], ["output", most, "00" * 32], ["usage", "2", "1"]]
    places = [("0", "1", chat), ("4294967295", most, text), ("7", "4611686018427387905", rows), ("0", "0", [])]
    transcripts = [
        run({"lock": lock, "job": job, "shard": shard, "fence": fence, "events": events})
        for shard, fence, events in places
    ]
    refused = ["00", "07", "04" + "00" * 5, "040000000007", "03000000000000d800", "030000000000110000", "0200", "0500"]
    about = "Vectors of docs/formats/transcript.md. Events in their order, bytes in hexadecimal, 64-bit integers as text."
    return {"about": about, "transcripts": transcripts, "no_events": refused}


def main():
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="ascii")
    vectors = json.loads(FILE.read_text(encoding="ascii"))
    for transcript in vectors["transcripts"]:
        if run(transcript) != transcript:
            sys.exit(f"another head at shard {transcript['shard']}")
    if vectors != made():
        sys.exit("the file is not what --write makes")
    print(f"{len(vectors['transcripts'])} transcripts, every head as it must be")


main()
