#!/usr/bin/env python3
"""A second verifier of Ashlar proofs, written from docs/formats/ alone; Python 3.11, standard library only.

    verify.py --trust trust.json --proof p.json s3://bucket/key [--version-id HEX] [--file PATH] [--json]
              [--operation put] [--evidence FILE | --rpc URL --rpc URL]

The steps, verdicts and exit codes of docs/formats/proof.md. A file is read whole and hashed at about 0.7 MB/s: for
small ones. Block proofs, receipts and the chain's state are checked as by the first verifier.
"""
import argparse
import base64
import contextlib
import json
import pathlib
import struct
import sys
import time
import urllib.request

from formats import (EVIDENCE, OPS, PROOF, TRUST, block_place, digest_of, fold, header_of, leaf_of, load, of_parts,
                     record_of)
from primitives import blake3, in_trie, keccak, need, number, signed, whole


# ---- the steps of proof.md, 5
def stands(head, leaf, at, path):
    """Whether the leaf is in the batch, and its position can be there."""
    need(head["first"] <= at[0] <= head["last"] and (at[1] > 0 or at[0] == head["first"]), "outside of the batch")
    need(at[1] != head["count"] - 1 or at[0] == head["last"], "not where the last leaf stands")
    path = list(path)
    need(fold(b"\x25", leaf, at[1], head["count"], path) == head["root"] and not path, "leads to another batch root")

def check_parts(record, parts):
    packed = b"".join(struct.pack(">I16sQ32s", *part.values()) for part in parts)
    need(sum(part["length"] for part in parts) == record["length"], "the parts have another length")
    need(keccak(b"\x13" + struct.pack(">I", len(parts)) + packed) == record["manifest"], "another manifest root")
    nodes = [keccak(b"\5" + struct.pack(">Q", part["length"]) + part["blob_root"]) for part in parts]
    while len(nodes) > 1:
        pairs = [nodes[i:i + 2] for i in range(0, len(nodes), 2)]
        nodes = [keccak(b"\x24" + b"".join(pair)) if len(pair) == 2 else pair[0] for pair in pairs]
    header = struct.pack(">HQI", 1, record["length"], len(parts))
    need(keccak(b"\4" + header + (nodes or [bytes(32)])[0]) == record["object"], "another object root")

def check_content(record, parts, data):
    lengths = [part["length"] for part in parts] if parts is not None else [record["length"]]
    need(len(data) == record["length"], "the content has another length")
    pieces = [data[sum(lengths[:i]):][:length] for i, length in enumerate(lengths)]
    plain = len(pieces) == 1 and blake3(data) == record["content"]
    need(plain or of_parts(pieces) == record["content"], "the content makes another root")

def vouched(trust, evidence, block):
    answers, point = evidence["endpoints"], trust["checkpoint"]
    level = "self-attested" if trust["chain"] == "embedded" else "header-verified" if answers is None else "rpc-trusted"
    if answers is None:
        pin = tuple((evidence["pinned"] or {}).values()) or (point["block_number"], point["block_hash"])
        need(pin == block, "another block is pinned")
        return level
    need(all(a["chain_id"] == trust["chain_id"] and a["block_hash"] == block[1] for a in answers), "endpoints disagree")
    needed = {"embedded": 1, "rpc": 2, "header": float("inf")}[trust["chain"]]
    need(len({a["endpoint"] for a in answers}) >= needed, "too few endpoints, or none are admitted")
    return level

def chain(step, trust, proof, evidence, head):
    with step("block"):
        state = evidence["state"] or proof["state"]
        fields = whole(state["block_header"])
        need(isinstance(fields, list) and len(fields) >= 15, "no header of a block")
        block, seconds = (number(fields[8]), keccak(state["block_header"])), number(fields[11])
        level = vouched(trust, evidence, block)
    with step("contracts"):
        for name in ("verifier", "registry"):
            account = whole(in_trie(fields[3], trust[name], state[name + "_account"]))
            need(len(account) == 4 and account[3] == trust[name + "_code_hash"], "other code of the " + name)
    with step("state"):
        found = [(s["slot"], whole(in_trie(account[2], s["slot"], s["nodes"]))) for s in state["storage"]]
        words = {slot: word.rjust(32, b"\0") for slot, word in found}
        need(len(words) == len(state["storage"]), "a slot is shown twice")
        first, pad = keccak(trust["namespace"] + (1).to_bytes(32, "big")), lambda n: n.to_bytes(32, "big")
        slot = lambda n: keccak(pad(n) + keccak(trust["namespace"] + pad(0)))  # noqa: E731
        one, two = words[first], words[pad((int.from_bytes(first, "big") + 1) % 2**256)]
        newest, last = int.from_bytes(one[4:12], "big"), int.from_bytes(two[4:12], "big")
        need((one[12:], two[12:]) == (trust["publisher"], trust["verifier"]), "another publisher or verifier")
        need(head is None or words[slot(head["sequence"])] == head["hash"], "another header is anchored")
    with step("checkpoint"):
        point = trust["checkpoint"]
        same = block == (point["block_number"], point["block_hash"])
        need(same or block[0] > point["block_number"], "the chain is behind the checkpoint, or another")
        answers = evidence["endpoints"]
        need(same or answers is None or all(a["checkpoint_hash"] == point["block_hash"] for a in answers), "rewound")
        known = {head["sequence"]: head["hash"]} if head else {}
        found = words.get(slot(point["sequence"]), known.get(point["sequence"]))
        shown = found == point["header_hash"] or (found is None and (same or answers is not None))
        need(newest >= point["sequence"], "the log is shorter than at the checkpoint")
        need(not point["sequence"] or shown, "another header at the checkpoint's sequence, or none shown")
    return level, newest, last, seconds * 1000

def promise(a, receipt, log, head):
    """Whether no place is left in the log for the promised leaf; without a header, `decide` asks the registry."""
    place = receipt["place"]
    left, right = a["left"], a["right"]
    if not head:
        return need(not (a["previous_header"] or left or right), "neighbours without a header")
    if place[0] < head["first"]:
        need(not (left or right), "there are no neighbours")
        before = a["previous_header"] and header_of(a["previous_header"], log)
        follows = before and (before["hash"], before["sequence"] + 1) == (head["previous"], head["sequence"])
        return need(before["last"] < place[0] if follows else head["sequence"] == 1 and before is None, "no gap")
    need(place[0] <= head["last"] and a["previous_header"] is None and (left or right), "nothing is excluded")
    for n in filter(None, (left, right)):
        n["place"] = (n["position"], n["index"])
        n["leaf"] = leaf_of(log, n["place"], n["record_digest"])
        stands(head, n["leaf"], (n["position"], n["leaf_index"]), n["path"])
    if right and right["place"] == place:
        return need(not left and right["leaf"] != receipt["leaf"], "the promised entry stands there")
    need(left is None or left["place"] < place, "the left leaf is not before")
    need(right is None or right["place"] > place, "the right leaf is not after")
    after = left["leaf_index"] + 1 if left else 0
    need(after == (right["leaf_index"] if right else head["count"]), "not neighbours")

def ask(urls, trust, proof):
    """What endpoints say of the block that the proof's state is of, and of the checkpoint's."""
    def call(url, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=30))["result"]
    numbers = [number(whole(proof["state"]["block_header"])[8]), trust["checkpoint"]["block_number"]]
    answers = []
    for url in urls:
        block, point = (call(url, "eth_getBlockByNumber", hex(n), False) for n in numbers)
        answers.append({"endpoint": url, "chain_id": int(call(url, "eth_chainId"), 16), "block_hash": block["hash"]})
        answers[-1].update({"checkpoint_hash": point["hash"]} if point else {})
    return {"format": "ashlar-evidence-1", "endpoints": answers}

class Stop(Exception):
    """A step failed, and nothing comes after it."""

def judge(trust, proof, evidence, asked, content, now, steps):
    """The verdict on three files as bytes; asked is (operation, bucket, key, version or None). Fills `steps`."""
    @contextlib.contextmanager
    def step(name):
        try:
            yield
        except Exception as error:  # whatever goes wrong on foreign bytes, the step has failed
            steps.append({"step": name, "ok": False, "detail": str(error)})
            raise Stop from error
        steps.append({"step": name, "ok": True, "detail": ""})
    try:
        return decide(step, trust, proof, evidence, asked, content, now)
    except Stop as stop:
        return {"verdict": "failed", "failed_step": steps[-1]["step"], "reason": str(stop.__cause__)}

def decide(step, trust, proof, evidence, asked, content, now):
    with step("parse"):
        trust, proof, evidence = load(trust, TRUST), load(proof, PROOF), load(evidence, EVIDENCE)
        entry, absence, point = proof["entry"], proof["absence"], trust["checkpoint"]
        need((entry is None) != (absence is None) and (entry or proof["receipt"]) is not None, "an entry or an absence")
        need((point["sequence"] == 0) == (not any(point["header_hash"])), "half a checkpoint")
        need(evidence["pinned"] is None or evidence["endpoints"] is None, "pinned or asked, not both")
    log = (trust["chain_id"], trust["registry"], trust["namespace"])
    with step("trust"):
        need((proof["chain_id"], proof["registry"], proof["namespace"]) == log, "a proof of another log")
    opened = entry or absence["opening"]
    if proof["receipt"] is not None:
        with step("receipt"):
            raw = base64.b64decode(proof["receipt"], "-_", True)
            need(base64.urlsafe_b64encode(raw).decode() == proof["receipt"], "no base64url")
            receipt = struct.unpack(">BQ20s32sQI32sQ64s", raw)
            message = b"ASHLAR-RECEIPT-V1" + raw[:-64]
            need(receipt[0] == 1 and signed(trust["receipt_key"], message, raw[-64:]), "another signer")
            need(receipt[1:4] == log, "a receipt of another log")
            receipt = {"place": receipt[4:6], "leaf": receipt[6], "deadline": receipt[7]}
            if entry:
                need(receipt["place"] == (entry["position"], entry["index"]), "the receipt promises another place")
                need(receipt["leaf"] == leaf_of(log, receipt["place"], digest_of(entry)), "another leaf")
    if opened:
        with step("record"):
            need(entry or leaf_of(log, receipt["place"], digest_of(opened)) == receipt["leaf"], "another promise")
            record = record_of(opened["record"], asked)
            if entry:
                names = [entry["bucket"], entry["key"]]
                need(record["names"] == names and record["version"] == entry["version"], "the proof names another")
                claims = (content, entry["parts"], entry["blocks"]) != (None, None, None)
            need(record["op"] == 1 or not entry and content is None or entry and not claims, "no content")
    placed = []
    if entry and entry["parts"] is not None:
        with step("parts"):
            check_parts(record, entry["parts"])
    if entry and entry["blocks"] is not None:
        with step("object"):
            for block in entry["blocks"]:
                part, begin, data, count = block_place(block["proof"], block["bytes"], record["object"])
                need(count == 1 or entry["parts"] is not None, "the list of parts is needed")
                placed.append((begin + sum(p["length"] for p in (entry["parts"] or [])[:part]), data))
    head, source = None, entry or absence
    if source["header"] is not None:
        with step("header"):
            head = header_of(source["header"], log)
    if entry:
        with step("batch"):
            place = (entry["position"], entry["index"])
            stands(head, leaf_of(log, place, digest_of(entry)), (place[0], entry["leaf_index"]), entry["path"])
    else:
        with step("promise"):
            need(now >= receipt["deadline"], "the promise is not due")
            promise(absence, receipt, log, head)
    level, newest, last, block_ms = chain(step, trust, proof, evidence, head)
    if entry:
        if content is not None:
            with step("content"):
                check_content(record, entry["parts"], content)
                need(all(content[at:at + len(data)] == data for at, data in placed), "not the proven block")
        return {"verdict": "committed", "level": level, "sequence": head["sequence"]}
    if head is None:
        with step("promise"):
            need(block_ms >= receipt["deadline"] and last < receipt["place"][0], "the log did not stand still")
    return {"verdict": "promised-not-in-log", "level": level, "sequence": head["sequence"] if head else newest}

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("object", help="s3://bucket/key")
    for flag in ("--trust", "--proof", "--file", "--evidence", "--version-id"):
        parser.add_argument(flag, required=flag in ("--trust", "--proof"))
    parser.add_argument("--operation", choices=OPS, default="put")
    parser.add_argument("--rpc", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    read = lambda path: pathlib.Path(path).read_bytes() if path else None  # noqa: E731
    bucket, _, key = args.object.removeprefix("s3://").partition("/")
    evidence = read(args.evidence) or b'{"format": "ashlar-evidence-1"}'
    if args.rpc:
        evidence = json.dumps(ask(args.rpc, load(read(args.trust), TRUST), load(read(args.proof), PROOF))).encode()
    version, steps = args.version_id and bytes.fromhex(args.version_id.removeprefix("0x")), []
    asked, now = (args.operation, bucket, key, version), int(time.time() * 1000)
    verdict = judge(read(args.trust), read(args.proof), evidence, asked, read(args.file), now, steps)
    if args.json:
        print(json.dumps({"format": "ashlar-verdict-1", "steps": steps, **verdict}))
    else:
        for taken in steps:
            print(taken["step"].ljust(12), "ok" if taken["ok"] else "failed: " + taken["detail"])
        print(" ".join(f"{name}={value}" for name, value in verdict.items()))
    return {"committed": 0, "failed": 1, "promised-not-in-log": 2}[verdict["verdict"]]

if __name__ == "__main__":
    sys.exit(main())
