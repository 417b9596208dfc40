#!/usr/bin/env python3
"""Moves a case of docs/formats/vectors/proof.json onto a chain of somebody else's making: anvil.

Code and slots of the registry are set on a running anvil, a block is mined, and state and header are fetched as from any
chain. So tries and headers are checked that no code of ours has made. Prints the vector file proof_anvil.json.

    anvil --port 8599 &    then    state_of_anvil.py http://127.0.0.1:8599 > docs/formats/vectors/proof_anvil.json
"""
import json
import sys
import urllib.request

from check_vectors import DEFAULT
from primitives import in_trie, keccak, whole

HEADER = ["parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
          "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot",
          "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash"]
NUMBERS = ["difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"]
CODE = {"registry": b"\x60\x00not a registry", "verifier": b"\x60\x00not a verifier"}


def call(method, *params):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
    answer = json.load(urllib.request.urlopen(request, timeout=30))
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]


def encode(value):
    body = b"".join(map(encode, value)) if isinstance(value, list) else value
    if not isinstance(value, list) and len(body) == 1 and body[0] < 0x80:
        return body
    base, size = 0xC0 if isinstance(value, list) else 0x80, len(body)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return (bytes([base + size]) if size < 56 else bytes([base + 55 + len(digits)]) + digits) + body


def field(block, name):
    if name in NUMBERS:
        number = int(block[name], 16)
        return number.to_bytes((number.bit_length() + 7) // 8, "big")
    return bytes.fromhex(block[name][2:])


def main():
    cases = {case["name"]: case for case in json.loads(DEFAULT.read_text())["cases"]}
    case = cases["a_whole_proof_with_its_file"]
    trust, proof = json.loads(case["trust"]), json.loads(case["proof"])
    fields = [bytes.fromhex(node[2:]) for node in proof["state"]["registry_account"]]
    root = whole(in_trie(whole(bytes.fromhex(proof["state"]["block_header"][2:]))[3],
                         bytes.fromhex(trust["registry"][2:]), fields))[2]
    slots = [slot["slot"] for slot in proof["state"]["storage"]]
    for slot in proof["state"]["storage"]:
        nodes = [bytes.fromhex(node[2:]) for node in slot["nodes"]]
        word = whole(in_trie(root, bytes.fromhex(slot["slot"][2:]), nodes))
        call("anvil_setStorageAt", trust["registry"], slot["slot"], "0x" + word.rjust(32, b"\0").hex())
    for name, code in CODE.items():
        call("anvil_setCode", trust[name], "0x" + code.hex())
        trust[name + "_code_hash"] = "0x" + keccak(code).hex()
    call("anvil_mine", "0x3")
    block = call("eth_getBlockByNumber", "latest", False)
    header = encode([field(block, name) for name in HEADER if name in block])
    if "0x" + keccak(header).hex() != block["hash"]:
        raise RuntimeError("a header of fields that are not known here")
    registry = call("eth_getProof", trust["registry"], slots, block["number"])
    verifier = call("eth_getProof", trust["verifier"], [], block["number"])
    proof["state"] = {
        "block_header": "0x" + header.hex(),
        "registry_account": registry["accountProof"],
        "verifier_account": verifier["accountProof"],
        "storage": [{"slot": slot, "nodes": found["proof"]} for slot, found in zip(slots, registry["storageProof"])],
    }
    trust["checkpoint"].update({"block_number": int(block["number"], 16), "block_hash": block["hash"]})
    trust["checkpoint"]["sequence"], trust["checkpoint"]["header_hash"] = 0, "0x" + "0" * 64
    case.update({"name": "on_anvil", "trust": json.dumps(trust), "proof": json.dumps(proof)})
    print(json.dumps({"cases": [case]}, indent=2))


if __name__ == "__main__":
    main()
