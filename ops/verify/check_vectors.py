#!/usr/bin/env python3
"""Judges the cases of a vector file (docs/formats/vectors/proof.json, or another of its form) with verify.py.

Prints every case on which the outcome is another than the file expects, and ends non-zero if there is one.
"""
import json
import pathlib
import sys

from verify import judge

DEFAULT = pathlib.Path(__file__).resolve().parents[2] / "docs/formats/vectors/proof.json"


def content(pieces):
    if pieces is None:
        return None
    return bytes((i * 167 + i // 256 * 13 + seed) % 256 for seed, start, end in pieces for i in range(start, end))


def main():
    cases = json.loads(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else DEFAULT).read_text())["cases"]
    differing = 0
    for case in cases:
        files = [case[name].encode() for name in ("trust", "proof", "evidence")]
        version = case["version"] and bytes.fromhex(case["version"][2:])
        asked = (case["operation"], case["bucket"], case["key"], version)
        verdict = judge(*files, asked, content(case["content"]), case["now"], [])
        found = {name: verdict.get(name) for name in case["expect"]}
        if found != case["expect"]:
            differing += 1
            print(f"{case['name']}: {found}, expected {case['expect']}; {verdict.get('reason')}")
    print(f"{len(cases)} cases, {differing} differ")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
