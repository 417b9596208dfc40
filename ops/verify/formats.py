"""The files of docs/formats/proof.md read strictly, and what stands in them: headers, leaves, records, blocks, parts.

Everything raises on input that is not what its format says. Decides nothing about who is trusted.
"""
import json
import re
import struct

from primitives import blake3, keccak, need

MAX = 16 << 20
# By operation: whether it has version and key, length and roots, manifest_root, metadata_digest, bucket.
HAS = {"put": "yyyyy", "delete-marker": "y--yy", "remove-version": "yy--y", "bucket-set": "---yy",
       "bucket-removed": "----y", "cluster-map": "---y-"}
OPS = list(HAS)

# ---- files: fields with "?" may be left out; hN is N bytes, h any number, uN an integer of N bits, s text
NODES, BLOCK_ID = ["h"], {"number": "u64", "hash": "h32"}
STATE = {"block_header": "h", "registry_account": NODES, "verifier_account": NODES,
         "storage": [{"slot": "h32", "nodes": NODES}]}
LEAF = {"position": "u64", "index": "u32", "leaf_index": "u32", "path": ["h32"]}
PROOF = {
    "format": "=ashlar-proof-1", "chain_id": "u64", "registry": "h20", "namespace": "h32", "receipt?": "s",
    "state?": STATE, "entry?": {
        **LEAF, "bucket": "s", "key": "s", "version": "h16", "record": "h", "salt": "h32", "header": "h",
        "parts?": [{"number": "u32", "blob": "h16", "length": "u64", "blob_root": "h32"}],
        "blocks?": [{"proof": "h", "bytes": "h"}]},
    "absence?": {"opening?": {"record": "h", "salt": "h32"}, "header?": "h", "previous_header?": "h",
                 "left?": {**LEAF, "record_digest": "h32"}, "right?": {**LEAF, "record_digest": "h32"}}}
TRUST = {
    "format": "=ashlar-trust-1", "chain": "=embedded|rpc|header", "chain_id": "u64", "registry": "h20",
    "registry_code_hash": "h32", "verifier": "h20", "verifier_code_hash": "h32", "namespace": "h32", "publisher": "h20",
    "receipt_key": "h32",
    "checkpoint": {"block_number": "u64", "block_hash": "h32", "sequence": "u64", "header_hash": "h32"}}
EVIDENCE = {"format": "=ashlar-evidence-1", "pinned?": BLOCK_ID, "state?": STATE, "endpoints?": [
    {"endpoint": "s", "chain_id": "u64", "block_hash": "h32", "checkpoint_hash?": "h32"}]}


def shaped(value, shape):
    if isinstance(shape, list):
        need(isinstance(value, list), "not a list")
        return [shaped(item, shape[0]) for item in value]
    if isinstance(shape, dict):
        fields = {name.rstrip("?"): name for name in shape}
        need(isinstance(value, dict) and value.keys() <= fields.keys(), "not an object, or an unknown field")
        need(all(name in value for name in shape if name[-1] != "?"), "a field is missing")
        return {n: shaped(value[n], shape[full]) if n in value else None for n, full in fields.items()}
    if shape[0] == "u":
        need(type(value) is int and 0 <= value < 1 << int(shape[1:]), "not an integer of its width")
    elif shape[0] == "h":
        size = int(shape[1:] or len(value) // 2 - 1)
        need(re.fullmatch("0x([0-9a-f]{2})*", value) and len(value) == 2 + 2 * size, "no hexadecimal of its length")
        return bytes.fromhex(value[2:])
    else:
        need(isinstance(value, str) and (shape == "s" or value in shape[1:].split("|")), "not text, or another format")
        value.encode()  # raises on half a surrogate
    return value


def load(data, shape):
    def unique(pairs):
        need(len(dict(pairs)) == len(pairs), "a field stands twice")
        return dict(pairs)
    def integer(text):
        need(text[0] != "-", "a negative number")
        return int(text)
    need(len(data) <= MAX, "too large")
    return shaped(json.loads(data.decode(), object_pairs_hook=unique, parse_int=integer), shape)

# ---- trees and blocks


def fold(tag, node, index, count, path):
    need(index < count, "no such leaf")
    while count > 1:
        if index % 2 or index + 1 < count:
            node = keccak(tag + (path.pop(0) + node if index % 2 else node + path.pop(0)))
        index, count = index // 2, -(-count // 2)
    return node


def of_parts(parts):
    key = list(struct.unpack("<8I", blake3(b"ashlar 2026-11 content root of parts v1", mode=32)))
    return blake3(b"".join(struct.pack(">Q", len(part)) + blake3(part) for part in parts), key, 64)


def block_place(proof, block, root):
    """Part, offset in it, bytes and part count of a block that leads to the object root (commitment.md, 7)."""
    f = struct.unpack(">HHQIIHQIIIIBBIBI", proof[:57])
    length, parts, part, _, part_len, chunk_bytes, chunks, chunk, chunk_len, k, m = f[2:13]
    shard, index = f[14:]
    need(f[:2] + (f[5], f[13]) == (1, 1, 1, 65536) and k and k + m <= 64 and 1 <= chunk_bytes <= 2**22, "no header")
    need(part_len <= length and (parts > 1 or part_len == length) and chunks == -(-part_len // chunk_bytes), "lengths")
    need(chunk < chunks and chunk_len == min(chunk_bytes, part_len - chunk * chunk_bytes), "chunk")
    full = (chunk_len - 1) // (k * 65536)
    last = -(-(chunk_len - full * k * 65536) // (64 * k)) * 64
    size, offset, path = full * 65536 + last, index * 16384, [proof[i:i + 32] for i in range(57, len(proof), 32)]
    need(len(block) == min(16384, size - offset), "block length")
    node = fold(b"\x23", fold(b"\x21", blake3(block), index, -(-size // 16384), path), shard, k + m, path)
    node = fold(b"\x22", keccak(b"\3" + proof[42:52] + node), chunk, chunks, path)
    node = keccak(b"\5" + proof[22:30] + keccak(b"\2" + proof[20:38] + node))
    node = fold(b"\x24", node, part, parts, path)
    need(not path and keccak(b"\4" + proof[2:16] + node) == root, "leads to another object root")
    row, cell = offset // 65536, 65536 if offset // 65536 < full else last
    begin = row * k * 65536 + (shard * cell if k > 1 else 0) + offset % 65536
    filled = max(0, min(len(block), chunk_len - begin)) if k == 1 or shard < k else 0
    need((k > 1 and shard >= k) or not any(block[filled:]), "padding is not zero")
    return part, chunk * chunk_bytes + begin, block[:filled], parts


def header_of(data, log):
    f = struct.unpack(">HQ20s32sQ32sQQI32s32sI", data)
    need(f[0] == 1 and f[4] and f[8] and f[6] <= f[7] and not any(f[10]), "an impossible header")
    need(f[1:4] == log and (f[4] > 1 or not any(f[5])), "a header of another log")
    return {"sequence": f[4], "previous": f[5], "first": f[6], "last": f[7], "count": f[8], "root": f[9],
            "hash": keccak(b"\x11" + data)}


def leaf_of(log, place, digest):
    return keccak(b"\x10" + struct.pack(">Q20s32sQI", *log, *place) + digest)


def digest_of(opened):
    return keccak(opened["salt"] + opened["record"])


def record_of(data, asked):
    f, names = struct.unpack(">BBQ16sQ32s32s32s32s", data[:162]), []
    data = data[162:]
    for _ in range(2):
        size = int.from_bytes(data[:2], "big")
        need(len(data) >= 2 + size, "the record ends early")
        names, data = names + [data[2:2 + size].decode()], data[2 + size:]
    need(not data and f[0] == 1 and 1 <= f[1] <= 6, "no record")
    has = HAS[OPS[f[1] - 1]]
    present = (any(f[3]) or names[1], f[4] or any(f[5] + f[6]), any(f[7]), any(f[8]), names[0])
    need(all(has[i] == "y" or not value for i, value in enumerate(present)), "a field that the operation has not")
    need((has[0] == "-" or 1 <= len(names[1].encode()) <= 1024) and (has[4] == "-" or names[0]), "a name is missing")
    need((OPS[f[1] - 1], *names) == asked[:3] and asked[3] in (None, f[3]), "the record is of something else")
    return dict(zip(("op", "time", "version", "length", "content", "object", "manifest"), f[1:8]), names=names)
