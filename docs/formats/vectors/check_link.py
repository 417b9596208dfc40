#!/usr/bin/env python3
"""Checks link.json with a second implementation of link.md, written from the text alone.

With --write it makes the file anew. Needs: pip install pycryptodome blake3
"""

import json
import pathlib
import struct
import sys

from blake3 import blake3
from Crypto.Hash import keccak as _keccak

FILE = pathlib.Path(__file__).with_name("link.json")


def keccak(data):
    return _keccak.new(digest_bits=256, data=data).digest()


def handshake(terms):
    raw = {name: bytes.fromhex(terms[name]) for name in
           ("market", "gateway", "provider", "gateway_nonce", "provider_nonce")}
    link = keccak(b"\x27" + struct.pack(">HQ", 1, int(terms["chain_id"])) + raw["market"] + raw["gateway"]
                  + raw["provider"] + raw["gateway_nonce"] + raw["provider_nonce"])
    return {**terms, "provider_signs": keccak(b"\x28" + link).hex(), "gateway_signs": keccak(b"\x29" + link).hex()}


def sampling(terms):
    job, seed = bytes.fromhex(terms["job"]), bytes.fromhex(terms["seed"])

    def is_sampled(shard):
        drawn = blake3(job + struct.pack(">I", shard), key=seed).digest()[:8]
        return int.from_bytes(drawn, "big") * 10**6 < int(terms["millionths"]) << 64

    sampled = [shard for shard in range(int(terms["units"])) if is_sampled(shard)]
    return {**terms, "commitment": keccak(b"\x2a" + job + seed).hex(), "sampled": sampled}


def made():
    name = lambda text, length: keccak(text.encode())[:length].hex()  # noqa: E731
    one = {"chain_id": "1095977036", "market": name("market", 20), "gateway": name("gateway", 20),
           "provider": name("provider", 20), "gateway_nonce": name("one", 32), "provider_nonce": name("two", 32)}
    two = {**one, "chain_id": str(2**64 - 1), "provider_nonce": "00" * 32}
    draws = [{"job": name("job", 32), "seed": name("seed", 32), "millionths": millionths, "units": "500"}
             for millionths in ("0", "20000", "500000", "1000000")]
    return {"about": "Vectors of docs/formats/link.md. Made by check_link.py; bytes in hexadecimal, integers in decimal text.",
            "handshakes": [handshake(one), handshake(two)], "samples": [sampling(draw) for draw in draws]}


def main():
    if "--write" in sys.argv:
        FILE.write_text(json.dumps(made(), indent=1) + "\n")
    found = json.loads(FILE.read_text())
    for terms in found["handshakes"]:
        assert handshake(terms) == terms, terms
    for terms in found["samples"]:
        assert sampling(terms) == terms, terms
    print(f"{len(found['handshakes'])} handshakes and {len(found['samples'])} samples are as the text says")


if __name__ == "__main__":
    main()
