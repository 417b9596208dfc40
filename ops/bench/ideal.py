"""How many bytes of a Parquet file a reader needs that knows everything the file's metadata says.

Invariant: standard library only; reads footers and page indexes and no data. Columns are flat.
"""

import struct
from pathlib import Path


class Thrift:
    """Thrift's compact protocol, as far as Parquet's footers use it: structures become dictionaries by field id."""

    def __init__(self, data: bytes, at: int = 0):
        self.data, self.at = data, at

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def value(self, kind: int):
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            self.at += 1
            return self.data[self.at - 1]
        if kind in (4, 5, 6):
            return self.zigzag()
        if kind == 7:
            self.at += 8
            return struct.unpack_from("<d", self.data, self.at - 8)[0]
        if kind == 8:
            length = self.varint()
            self.at += length
            return self.data[self.at - length:self.at]
        if kind in (9, 10):
            head = self.data[self.at]
            self.at += 1
            count = head >> 4 if head >> 4 != 15 else self.varint()
            if head & 15 in (1, 2):
                self.at += count
                return [byte == 1 for byte in self.data[self.at - count:self.at]]
            return [self.value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.structure()
        raise ValueError(f"Thrift's type {kind} is not expected here")

    def structure(self) -> dict:
        fields, last = {}, 0
        while (head := self.data[self.at]) != 0:
            self.at += 1
            last = last + (head >> 4) if head >> 4 else self.zigzag()
            fields[last] = self.value(head & 15)
        self.at += 1
        return fields


def needed(file: Path, columns: list, bounds: dict) -> dict:
    """Bytes that `columns` need where each column of `bounds` (name: (from, to), integers or texts, both included) may match.

    `groups`: with the statistics of row groups alone; `pages`: with page indexes, which are then read, too;
    `ideal`: the fewer of both. All count the footer.
    """
    data = file.read_bytes()
    length = struct.unpack("<I", data[-8:-4])[0]
    footer = Thrift(data, len(data) - 8 - length).structure()
    groups = pages = length + 8
    matching = 0
    for group in footer[4]:
        chunks = {b".".join(chunk[3][3]).decode(): chunk for chunk in group[1]}
        if any(excluded(chunks[name][3][12], bound) for name, bound in bounds.items() if 12 in chunks[name][3]):
            continue
        matching += 1
        whole = sum(chunks[name][3][7] for name in columns)
        groups += whole
        pages += min(whole, by_pages(data, group, chunks, columns, bounds, whole))
    return {"groups": groups, "pages": pages, "ideal": min(groups, pages), "row_groups": len(footer[4]), "row_groups_needed": matching,
            "footer": length + 8, "file": len(data)}


def excluded(statistics: dict, bound) -> bool:
    low, high = statistics.get(6, statistics.get(2)), statistics.get(5, statistics.get(1))
    return low is not None and high is not None and outside(low, high, bound)


def outside(low: bytes, high: bytes, bound) -> bool:
    if isinstance(bound[0], int):
        low, high = (int.from_bytes(value, "little", signed=True) for value in (low, high))
    else:
        low, high = low.decode(), high.decode()
    return high < bound[0] or low > bound[1]


def by_pages(data, group, chunks, columns, bounds, whole) -> int:
    """Bytes of the pages whose rows may match, of the indexes that say so, and of dictionaries."""
    rows, read = [(0, group[3])], 0
    for name, bound in bounds.items():
        chunk = chunks[name]
        if 6 not in chunk or 4 not in chunk:
            return whole
        index = Thrift(data, chunk[6]).structure()
        starts = [page[3] for page in Thrift(data, chunk[4]).structure()[1]]
        ends = [*starts[1:], group[3]]
        read += chunk[7]
        kept = [(a, b) for a, b, empty, low, high in zip(starts, ends, index[1], index[2], index[3]) if not empty and not outside(low, high, bound)]
        rows = [(max(a, c), min(b, d)) for a, b in rows for c, d in kept if max(a, c) < min(b, d)]
    for name in columns:
        chunk = chunks[name]
        if 4 not in chunk:
            read += chunk[3][7]
            continue
        locations = Thrift(data, chunk[4]).structure()[1]
        read += chunk[5]
        ends = [*[page[3] for page in locations[1:]], group[3]]
        taken = [page for page, end in zip(locations, ends) if any(a < end and page[3] < b for a, b in rows)]
        read += sum(page[2] for page in taken)
        # Some writers tell the dictionary's place as that of the first page of data.
        first = min(page[1] for page in locations)
        read += first - min(chunk[3].get(11, first), chunk[3][9]) if taken else 0
    return read
