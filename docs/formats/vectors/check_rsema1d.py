#!/usr/bin/env python3
"""Recomputes rsema1d.json from docs/formats/rsema1d.md alone: a second implementation of the format.

Knows nothing of the Rust one. Needs `blake3` (PyPI). Prints what it checked, or fails at the first difference.
"""

import json
import pathlib
import struct

from blake3 import blake3

SEGMENT = 1024
BASIS = [
    0x0001, 0xACCA, 0x3C0E, 0x163E, 0xC582, 0xED2E, 0x914C, 0x4012,
    0x6C98, 0x10D8, 0x6A72, 0xB900, 0xFDB8, 0xFB34, 0xFF38, 0x991E,
]  # fmt: skip


def hash_(name, data, length=32):
    return blake3(data, derive_key_context=f"ashlar 2026-11 rsema1d {name} v1").digest(length)


# Section 2: the field, and the code as interpolation.

POWER, LOG = [0] * 65535, [0] * 65536


def tables():
    """A symbol's bits choose elements of the Cantor basis; their sum is a polynomial in x."""
    to_polynomial = [0] * 65536
    for symbol in range(1, 65536):
        low = symbol & -symbol
        to_polynomial[symbol] = to_polynomial[symbol ^ low] ^ BASIS[low.bit_length() - 1]
    to_symbol = {polynomial: symbol for symbol, polynomial in enumerate(to_polynomial)}
    polynomial = 1
    for exponent in range(65535):
        POWER[exponent] = to_symbol[polynomial]
        LOG[to_symbol[polynomial]] = exponent
        polynomial <<= 1
        if polynomial >> 16:
            polynomial ^= 0x1002D


tables()


def times(a, b):
    return POWER[(LOG[a] + LOG[b]) % 65535] if a and b else 0


def over(a, b):
    return POWER[(LOG[a] - LOG[b]) % 65535] if a else 0


def coefficients(originals, parities):
    """For each parity row, what each original row counts in it."""
    size = 1 << (parities - 1).bit_length()
    points = range(size, 2 * size)
    rows = []
    for parity in range(parities):
        # The product of all (parity - point), divided by what belongs to one point.
        whole = 1
        for point in points:
            whole = times(whole, parity ^ point)
        row = []
        for original in range(originals):
            at = size + original
            own = parity ^ at
            for point in points:
                if point != at:
                    own = times(own, at ^ point)
            row.append(over(whole, own))
        rows.append(row)
    return rows


def symbols(row):
    return [
        row[unit + i] | row[unit + 32 + i] << 8 for unit in range(0, len(row), 64) for i in range(32)
    ]


def from_symbols(values):
    out = bytearray()
    for unit in range(0, len(values), 32):
        part = values[unit : unit + 32]
        out += bytes(value & 0xFF for value in part) + bytes(value >> 8 for value in part)
    return bytes(out)


def parity_row(original_symbols, row_coefficients):
    total = [0] * len(original_symbols[0])
    for values, factor in zip(original_symbols, row_coefficients):
        if factor:
            shift = LOG[factor]
            total = [t ^ (POWER[(LOG[v] + shift) % 65535] if v else 0) for t, v in zip(total, values)]
    return from_symbols(total)


# Section 4: elements are lists of eight symbols.


def element(data):
    return [data[i] | data[8 + i] << 8 for i in range(8)]


def element_bytes(value):
    return bytes(v & 0xFF for v in value) + bytes(v >> 8 for v in value)


def element_times(a, b):
    product = [0] * 15
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            product[i + j] ^= times(x, y)
    for i in range(14, 7, -1):
        top, product[i] = product[i], 0
        product[i - 5] ^= top
        product[i - 7] ^= top
        product[i - 8] ^= times(top, 0x010C)
    return product[:8]


def plus(a, b):
    return [x ^ y for x, y in zip(a, b)]


def fingerprint(row, p, q):
    values = symbols(row)
    groups = [values[i : i + 8] for i in range(0, len(values), 8)]
    outer = [0] * 8
    for start in range(0, len(groups), SEGMENT):
        inner = [0] * 8
        for group in groups[start : start + SEGMENT]:
            inner = plus(element_times(inner, p), group)
        outer = plus(element_times(outer, q), inner)
    return outer


# Sections 1, 3 and 5.


def encode(profile, blob):
    originals, parities = (4, 12) if profile == "small" else (256, 768)
    row_bytes = -(-len(blob) // (64 * originals)) * 64
    shape = struct.pack(">BIIIQ", 1, originals, parities, row_bytes, len(blob))
    padded = blob.ljust(originals * row_bytes, b"\0")
    rows = [padded[i * row_bytes : (i + 1) * row_bytes] for i in range(originals)]
    parsed = [symbols(row) for row in rows]
    rows += [parity_row(parsed, row) for row in coefficients(originals, parities)]
    layers = [[hash_("row", row) for row in rows]]
    while len(layers[-1]) > 1:
        below = layers[-1]
        layers.append([hash_("node", below[i] + below[i + 1]) for i in range(0, len(below), 2)])
    seed = hash_("points", shape + layers[-1][0])
    p, q = element(seed[:16]), element(seed[16:])
    prints = [element_bytes(fingerprint(row, p, q)) for row in rows[:originals]]
    opening = shape + layers[-1][0] + b"".join(prints)
    return rows, layers, opening


def path(layers, index):
    return [layer[(index >> height) ^ 1].hex() for height, layer in enumerate(layers[:-1])]


# Section 8.


def assign(profile, stakes, commitment):
    cap, total_rows, floor = (4, 16, 1) if profile == "small" else (256, 1024, 148)
    total = sum(stakes)
    if profile == "small":
        ranks = list(range(total_rows))
    else:
        ranks = struct.unpack(f">{total_rows}Q", hash_("assignment", commitment, 8 * total_rows))
    while True:
        counts = [
            min(cap, max(floor, -(-3 * cap * stake // total))) if stake else 0 for stake in stakes
        ]
        signers = [i for i, count in enumerate(counts) if count]
        # sorted() is stable, so equal signers stay in order of their numbers.
        common = 1
        for count in set(counts) - {0}:
            common *= count
        signers.sort(key=lambda i: (counts[i] == cap, -stakes[i] * (common // counts[i])))
        weight, holders, rows = [0] * total_rows, [0] * total_rows, [[] for _ in stakes]
        for i in signers:
            measure = holders if counts[i] == cap else weight
            lightest = sorted(range(total_rows), key=lambda row: (measure[row], ranks[row], row))
            for row in lightest[: counts[i]]:
                holders[row] += 1
                if counts[i] < cap:
                    weight[row] += -(-(stakes[i] << 24) // counts[i])
            rows[i] = sorted(lightest[: counts[i]])
        if 3 * sum(sorted(weight)[-(cap - 1) :]) < total << 24:
            return rows
        floor = min(2 * floor, cap)


def main():
    here = pathlib.Path(__file__).parent
    vectors = json.loads((here / "rsema1d.json").read_text())
    for case in vectors["blobs"]:
        blob = bytes((i * 31 + i // 256 + case["seed"]) % 256 for i in range(case["blob_bytes"]))
        rows, layers, opening = encode(case["profile"], blob)
        assert opening.hex() == case["opening"], case["blob_bytes"]
        assert hash_("commitment", opening).hex() == case["commitment"], case["blob_bytes"]
        for row in case["rows"]:
            assert blake3(rows[row["index"]]).hexdigest() == row["blake3_of_row"], row["index"]
            assert path(layers, row["index"]) == row["path"], row["index"]
    for case in vectors["assignments"]:
        rows = assign(case["profile"], case["stakes"], bytes([case["commitment_byte"]] * 32))
        if case["profile"] == "large":
            text = "\n".join(str(row) for row in rows)
            assert blake3(text.encode()).hexdigest() == case["rows"]["blake3_of_rows"]
        else:
            assert rows == case["rows"], case["stakes"]
    print(f"{len(vectors['blobs'])} blobs and {len(vectors['assignments'])} assignments agree")


if __name__ == "__main__":
    main()
