"""Files of sqllogictest: what SQL must answer, one record after the other.

Records are separated by empty lines; lines that begin with `#` are comments.

    statement ok                        statement error 42P01.*not found        statement count 3
    SELECT …                            SELECT …                                INSERT …

    query ITR rowsort                   types: I integer, R number, T text and all else, B boolean;
    SELECT …                            sorting: nosort (default), rowsort, valuesort
    ----
    1 text 2.5                          a row a line, values by one space; NULL, and (empty) for the empty text

An error's regular expression is searched for in `SQLSTATE message`. Beyond the format: `connection NAME` gives
the next record to another session; `object KEY` puts its lines as an object (KEY below the file's own place, which
`$PLACE` stands for everywhere); `fault REASON` says that the next record does not hold, and it must not.

Invariant: knows how to read records and to run one; a record that does not parse is an error, never left out.
"""

import decimal
import re
from dataclasses import dataclass

import psycopg


class Wrong(AssertionError):
    """A record that does not hold."""


@dataclass
class Record:
    line: int
    head: list
    body: list
    expected: list | None
    connection: str
    fault: str | None

    @property
    def sql(self) -> str:
        return "\n".join(self.body)


def parse(text: str) -> list:
    records, connection, fault = [], "one", None
    blocks, block = [], []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("#"):
            continue
        if line.strip():
            block.append((number, line))
        elif block:
            blocks.append(block)
            block = []
    for block in blocks:
        number, first = block[0]
        while first.split()[0] in ("connection", "fault"):
            word, _, rest = first.partition(" ")
            connection, fault = (rest, fault) if word == "connection" else (connection, rest)
            block = block[1:]
            if not block:
                break
            number, first = block[0]
        if not block:
            continue
        head, lines = first.split(), [line for _, line in block[1:]]
        if head[0] not in ("statement", "query", "object"):
            raise ValueError(f"line {number}: {first}")
        expected = None
        if head[0] == "query":
            if "----" not in lines:
                raise ValueError(f"line {number}: a query without ----")
            at = lines.index("----")
            lines, expected = lines[:at], lines[at + 1:]
        elif head[0] == "statement" and (len(head) < 2 or head[1] not in ("ok", "error", "count")):
            raise ValueError(f"line {number}: {first}")
        records.append(Record(number, [head[0], *first.split(" ")[1:]], lines, expected, connection, fault))
        connection, fault = "one", None
    return records


def shown(value, kind: str) -> str:
    if value is None:
        return "NULL"
    if value == "":
        return "(empty)"
    if isinstance(value, bool):
        if kind != "B":
            raise Wrong(f"{value} is not of type {kind}")
        return str(value).lower()
    if kind == "I":
        if not isinstance(value, int):
            raise Wrong(f"{value!r} is not an integer")
        return str(value)
    if kind == "R":
        if not isinstance(value, (int, float, decimal.Decimal)):
            raise Wrong(f"{value!r} is not a number")
        return f"{value:.12g}" if isinstance(value, float) else str(value)
    return str(value)


def check_query(record: Record, rows: list) -> None:
    kinds, order = record.head[1], (record.head + ["nosort", "nosort"])[2]
    if any(len(row) != len(kinds) for row in rows):
        raise Wrong(f"{len(rows[0])} columns, not {len(kinds)}")
    found = [[shown(v, k) for v, k in zip(row, kinds)] for row in rows]
    if order == "valuesort":
        lines, expected = sorted(v for row in found for v in row), sorted(v for line in record.expected for v in line.split(" "))
    else:
        lines, expected = [" ".join(row) for row in found], list(record.expected)
        if order == "rowsort":
            lines, expected = sorted(lines), sorted(expected)
    if lines != expected:
        raise Wrong("answered\n" + "\n".join(f"    {line}" for line in lines))


def run(record: Record, connection) -> None:
    """Raises Wrong when the record does not hold."""
    failed = None
    with connection.cursor() as cursor:
        try:
            cursor.execute(record.sql.encode())
            rows = cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            failed = f"{error.sqlstate} {error}"
        if record.head[:2] == ["statement", "error"]:
            pattern = " ".join(record.head[2:])
            if failed is None:
                raise Wrong("no error")
            if not re.search(pattern, failed):
                raise Wrong(f"another error: {failed}")
        elif failed is not None:
            raise Wrong(failed)
        elif record.head[:2] == ["statement", "count"] and cursor.rowcount != int(record.head[2]):
            raise Wrong(f"{cursor.rowcount} rows")
        elif record.head[0] == "query":
            check_query(record, rows)
