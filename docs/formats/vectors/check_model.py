#!/usr/bin/env python3
"""docs/formats/model.md once more, apart from the Rust code: makes or checks vectors/model.json.

    docs/formats/vectors/check_model.py [--write]

Needs the Python package `blake3`.
"""

import json
import struct
import sys
from pathlib import Path

from blake3 import blake3

HERE = Path(__file__).resolve().parent
FILE = HERE / "model.json"
FILES_MAX, NAME_MAX, MANIFEST_MAX = 1000, 512, 1 << 20


def manifest(files: dict[str, bytes]) -> bytes:
    lines = ["ashlar-model 1"]
    for name in sorted(files, key=lambda name: name.encode()):
        lines.append(f"{blake3(files[name]).hexdigest()} {len(files[name])} {name}")
    return ("\n".join(lines) + "\n").encode()


def is_name(name: str) -> bool:
    def is_part(part: str) -> bool:
        plain = all(not (ord(c) < 32 or 127 <= ord(c) < 160) and c not in "\\:" for c in part)
        return plain and part not in ("", ".", "..")
    return len(name.encode()) <= NAME_MAX and all(map(is_part, name.split("/")))


def is_manifest(data: bytes) -> bool:
    if len(data) > MANIFEST_MAX or not data.endswith(b"\n"):
        return False
    try:
        first, *lines = data.decode().split("\n")[:-1]
    except UnicodeDecodeError:
        return False
    if first != "ashlar-model 1" or not 1 <= len(lines) <= FILES_MAX:
        return False
    names = []
    for line in lines:
        fields = line.split(" ", 2)
        if len(fields) != 3:
            return False
        root, length, name = fields
        if len(root) != 64 or set(root) - set("0123456789abcdef"):
            return False
        if not (length.isascii() and length.isdigit() and str(int(length)) == length and int(length) < 1 << 64):
            return False
        if not is_name(name):
            return False
        names.append(name)
    coded = [name.encode() for name in names]
    if any(one >= other for one, other in zip(coded, coded[1:])):
        return False
    folders = {name[:at] for name in names for at, c in enumerate(name) if c == "/"}
    return not folders & set(names)


def trained(words: dict, tensors: dict[str, tuple[list[int], list[float]]]) -> bytes:
    text = json.dumps(words, separators=(",", ":"), ensure_ascii=False)
    header, data = {"__metadata__": {"ashlar": text}}, b""
    for name in sorted(tensors, key=lambda name: name.encode()):
        shape, floats = tensors[name]
        packed = struct.pack(f"<{len(floats)}f", *floats)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(packed)]}
        data += packed
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def vectors() -> dict:
    folders = [
        {"config.json": b"{}"},
        {"model.safetensors": bytes(range(256)) * 17, "config.json": b"{}\n", "1_Pooling/config.json": b"", "größe": b"x"},
        {"a-b": b"1", "a/b": b"2", "a0": b"3"},
    ]
    good = manifest(folders[1])
    bad = [
        b"", b"ashlar-model 1\n", good[:-1], good + b"\n", good.replace(b"model 1\n", b"model 2\n"), good.replace(b" 3 ", b" 03 "),
        good.replace(b" 3 ", b"  3 "), good.replace(b" 3 ", b" +3 "), good.replace(b"\n", b"\r\n"), good + good.split(b"\n")[1] + b"\n",
        good.replace(b"1_Pooling", b".."), good.replace(b"1_Pooling/", b"/"), good.replace(b"config.json\n", b"config.json/\n", 1),
        good.replace("größe".encode(), b"\xff\xfe"), good.replace("größe".encode(), b"c:\\x"), manifest({"a": b"1", "a-b": b"2", "a/b": b"3"}),
        b"\n".join([good.split(b"\n")[0], *reversed(good.split(b"\n")[1:-1])]) + b"\n",
        good.replace(good[15:79], good[15:79].upper()),
    ]
    words = {
        "format": 1, "kind": "head", "base": "0x" + "01" * 32, "data": ["0x" + "02" * 32], "labels": ["ham", "spam"],
        "options": {"balanced": True, "l2": 0.5, "parts": ["x", "y"], "seed": 7, "split": "hash"},
        "metrics": [{"step": 1, "values": {"train_loss": 0.333333333}}],
    }
    tensors = {"head.weight": ([2, 3], [1.0, -1.0, 0.5, 0.25, 2.0, -0.125]), "head.bias": ([2], [0.0, 1.5])}
    file = trained(words, tensors)
    return {
        "folders": [
            {"files": {name: data.hex() for name, data in files.items()}, "manifest": manifest(files).decode(),
             "root": blake3(manifest(files)).hexdigest()} for files in folders
        ],
        "no_manifests": [data.hex() for data in bad],
        "trained": {"words": words, "tensors": {n: {"shape": s, "floats": f} for n, (s, f) in tensors.items()},
                    "file": file.hex(), "root": blake3(file).hexdigest()},
    }


def main() -> int:
    made = vectors()
    assert all(is_manifest(folder["manifest"].encode()) for folder in made["folders"])
    assert not any(is_manifest(bytes.fromhex(data)) for data in made["no_manifests"])
    text = json.dumps(made, indent=1, ensure_ascii=True) + "\n"
    if "--write" in sys.argv[1:]:
        FILE.write_text(text)
    same = FILE.read_text() == text
    print("model.json is what the format says" if same else "model.json is something else")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
