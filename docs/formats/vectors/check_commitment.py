#!/usr/bin/env python3
"""Checks commitment.json with a second implementation of commitment.md, written from the text alone.

It recomputes every root from content and checks every proof with its own verifier. Parity shards are taken from
the committed leaf tables: the coder itself is not reimplemented here.

Needs: pip install blake3 pycryptodome
"""

import json
import pathlib
import struct
import sys

from blake3 import blake3
from Crypto.Hash import keccak as _keccak

BLOCK, CELL, UNIT, SMALL, CHUNK_MAX = 16384, 65536, 64, 65536, 4 << 20
BLOCKS, CHUNKS, SHARDS, PARTS = 0x21, 0x22, 0x23, 0x24
CONTEXT = "ashlar 2026-11 content root of parts v1"


def keccak(data):
    return _keccak.new(digest_bits=256, data=data).digest()


def leaf(block):
    return blake3(block).digest()


def root(tag, nodes):
    if not nodes:
        return bytes(32)
    while len(nodes) > 1:
        pairs = [nodes[i : i + 2] for i in range(0, len(nodes), 2)]
        nodes = [keccak(bytes([tag]) + p[0] + p[1]) if len(p) == 2 else p[0] for p in pairs]
    return nodes[0]


def siblings(index, count):
    n = 0
    while count > 1:
        n += index % 2 == 1 or index + 1 < count
        index, count = index // 2, -(-count // 2)
    return n


def fold(tag, node, index, count, path):
    path = list(path)
    while count > 1:
        if index % 2 == 1:
            node = keccak(bytes([tag]) + path.pop(0) + node)
        elif index + 1 < count:
            node = keccak(bytes([tag]) + node + path.pop(0))
        index, count = index // 2, -(-count // 2)
    assert not path
    return node


def content(seed, length):
    return bytes((i * 167 + i // 256 * 13 + seed) % 256 for i in range(length))


def cell_bytes(row_len, k):
    return -(-row_len // (UNIT * k)) * UNIT


def shard_bytes(chunk_len, k):
    full = (chunk_len - 1) // (k * CELL)
    return full * CELL + cell_bytes(chunk_len - full * k * CELL, k)


def data_shards(chunk, k):
    shards = [b""] * k
    for at in range(0, len(chunk), k * CELL):
        row = chunk[at : at + k * CELL]
        cell = cell_bytes(len(row), k)
        row = row.ljust(cell * k, b"\0")
        shards = [shard + row[i * cell : (i + 1) * cell] for i, shard in enumerate(shards)]
    return shards


def leaves(shard):
    return [leaf(shard[at : at + BLOCK]) for at in range(0, len(shard), BLOCK)]


def chunk_root(chunk_len, k, m, shard_roots):
    header = struct.pack(">IBBI", chunk_len, k, m, CELL)
    return keccak(b"\x03" + header + root(SHARDS, shard_roots))


def copies_if_small(preferred, length):
    k, m = (int(part) for part in preferred.split("+"))
    return (1 if length <= SMALL else k), m


def check_trees(trees):
    for tree in trees:
        tag = int(tree["node_tag"], 16)
        nodes = [bytes.fromhex(node) for node in tree["leaves"]]
        assert nodes == [leaf(bytes([i])) for i in range(len(nodes))]
        expected = bytes.fromhex(tree["root"])
        assert root(tag, nodes) == expected
        for index, path in enumerate(tree["paths"]):
            assert len(path) == siblings(index, len(nodes))
            path = [bytes.fromhex(node) for node in path]
            assert fold(tag, nodes[index], index, len(nodes), path) == expected


def check_chunk(vector):
    chunk = content(vector["seed"], vector["length"])
    k, m = copies_if_small(vector["preferred"], len(chunk))
    assert vector["coding"] == f"{k}+{m}"
    shards = data_shards(chunk, k)
    size, blocks = shard_bytes(len(chunk), k), -(-shard_bytes(len(chunk), k) // BLOCK)
    assert all(len(shard) == size == vector["shard_bytes"] for shard in shards)
    assert blocks == vector["blocks"]
    encoded = bytes.fromhex(vector["commitment"])
    stored = 1 if k == 1 else k + m
    assert encoded[:12] == struct.pack(">HIBBI", 1, len(chunk), k, m, CELL)
    assert len(encoded) == 12 + stored * 32 * (1 + blocks)
    digests = [encoded[at : at + 32] for at in range(12, len(encoded), 32)]
    tables = [digests[stored + i * blocks : stored + (i + 1) * blocks] for i in range(stored)]
    assert [leaves(shard) for shard in shards] == tables[:k]
    assert [root(BLOCKS, table) for table in tables] == digests[:stored]
    roots = digests[:stored] * (m + 1) if k == 1 else digests[:stored]
    assert [r.hex() for r in roots] == vector["shard_roots"]
    assert [blake3(shard).hexdigest() for shard in shards] == vector["shard_blake3"][:k]
    assert chunk_root(len(chunk), k, m, roots).hex() == vector["chunk_root"]


def check_object(vector):
    length, chunk_bytes = sum(vector["part_lengths"]), vector["chunk_bytes"]
    parts = []
    for seed, (part_len, roots) in enumerate(zip(vector["part_lengths"], vector["chunk_roots"])):
        part = content(seed, part_len)
        assert len(roots) == -(-part_len // chunk_bytes)
        for index, expected in enumerate(roots):
            chunk = part[index * chunk_bytes :][:chunk_bytes]
            k, m = copies_if_small(vector["preferred"], len(chunk))
            if k == 1:  # of coded chunks, parity is not recomputed
                shard_roots = [root(BLOCKS, leaves(data_shards(chunk, 1)[0]))] * (m + 1)
                assert chunk_root(len(chunk), k, m, shard_roots).hex() == expected
        header = struct.pack(">HQII", 1, part_len, chunk_bytes, len(roots))
        blob = keccak(b"\x02" + header + root(CHUNKS, [bytes.fromhex(r) for r in roots]))
        assert blob.hex() == vector["blob_roots"][seed]
        parts.append(keccak(b"\x05" + struct.pack(">Q", part_len) + blob))
    header = struct.pack(">HQI", 1, length, len(parts))
    assert keccak(b"\x04" + header + root(PARTS, parts)).hex() == vector["object_root"]
    digests = [(n, blake3(content(i, n)).digest()) for i, n in enumerate(vector["part_lengths"])]
    assert digests[0][1].hex() == vector["content_root_of_first_part"]
    listed = b"".join(struct.pack(">Q", n) + digest for n, digest in digests)
    derived = blake3(listed, derive_key_context=CONTEXT).hexdigest()
    assert derived == vector["content_root_of_parts"]
    for proof in vector["proofs"]:
        found = verify(bytes.fromhex(proof["proof"]), bytes.fromhex(proof["leaf"]))
        assert found.hex() == vector["object_root"]


def verify(proof, node):
    """The object root that a leaf and its proof make, by the rules of section 7 (2 to 5 and 7)."""
    fields = struct.unpack(">H HQI I HQII I IBBI BI", proof[:57])
    fmt, ofmt, object_len, part_count, part, bfmt, part_len, chunk_bytes, chunk_count, chunk = fields[:10]
    chunk_len, k, m, cell, shard, block = fields[10:]
    assert (fmt, ofmt, bfmt, cell) == (1, 1, 1, CELL)
    assert k >= 1 and k + m <= 64 and 1 <= chunk_len <= CHUNK_MAX and 1 <= chunk_bytes <= CHUNK_MAX
    assert part < part_count and part_len <= object_len and (part_count > 1 or part_len == object_len)
    assert chunk_count == -(-part_len // chunk_bytes) and chunk < chunk_count
    assert chunk_len == min(chunk_bytes, part_len - chunk * chunk_bytes)
    blocks = -(-shard_bytes(chunk_len, k) // BLOCK)
    assert shard < k + m and block < blocks
    levels = [(block, blocks), (shard, k + m), (chunk, chunk_count), (part, part_count)]
    counts = [siblings(index, count) for index, count in levels]
    assert len(proof) == 57 + 32 * sum(counts)
    path = [proof[at : at + 32] for at in range(57, len(proof), 32)]
    paths = []
    for count in counts:
        paths.append(path[:count])
        path = path[count:]
    node = fold(BLOCKS, node, block, blocks, paths[0])
    node = fold(SHARDS, node, shard, k + m, paths[1])
    node = keccak(b"\x03" + proof[42:52] + node)
    node = fold(CHUNKS, node, chunk, chunk_count, paths[2])
    node = keccak(b"\x02" + proof[20:38] + node)
    node = keccak(b"\x05" + struct.pack(">Q", part_len) + node)
    node = fold(PARTS, node, part, part_count, paths[3])
    return keccak(b"\x04" + proof[2:16] + node)


def main():
    vectors = json.loads(pathlib.Path(__file__).with_name("commitment.json").read_text())
    check_trees(vectors["trees"])
    for vector in vectors["chunks"]:
        check_chunk(vector)
    for vector in vectors["objects"]:
        check_object(vector)
    proofs = sum(len(vector["proofs"]) for vector in vectors["objects"])
    counts = (len(vectors["trees"]), len(vectors["chunks"]), len(vectors["objects"]), proofs)
    print("%d trees, %d chunks, %d objects and %d proofs agree" % counts)


if __name__ == "__main__":
    sys.exit(main())
