"""Random queries that Ashlar and DuckDB must answer alike.

What the two dialects mean differently, and is therefore not generated:

- `/` of integers (DuckDB: a double; here, as in PostgreSQL: an integer) and division by zero (DuckDB: NULL; here: an
  error): what is divided is a double, by what is never 0.
- Rounding: CAST of a double or a decimal to an integer, round() of halves, CAST to a smaller scale. avg() of a decimal
  (DuckDB: a double; here: a decimal with four more digits): avg takes doubles.
- Overflow: integers stay below 2^53, decimals below 10^18, also summed.
- Where NULLs are in an ORDER BY that does not say: it is always said. What a LIMIT leaves out where rows are equal:
  it is ordered by all columns, windows by a unique one last.
- `date - date` (DuckDB: days; here: an interval), date_trunc of a date (here: a timestamp): cast back.
- `||` and concat agree; least() and greatest() with NULL agree; LIKE has no escapes, strings no NUL.
- Names of columns: every one has an alias.
- Intervals of 30 days and more: DuckDB takes `+ INTERVAL '30 days'` and `+ INTERVAL '1 month'` of one SELECT for the same.

What faults of ours (each a strict xfail in test_differential.py) make wrong is left out unless SQL_ALL is set: see FAULTS.

Invariant: one seed makes one query, whatever was made before. Knows nothing of servers.
"""

import os
import random

# What is left out, because of what.
FAULTS = {
    "one name on both sides of a join": "a filter on both is pushed into one side",
    "conditions without columns, aggregates of all rows in FROM": "a filter without columns is pushed below them, and leaves their row",
    "INTERSECT ALL, EXCEPT ALL": "rows are not counted",
    "IS TRUE": "DISTINCT and UNION over it end with an internal error",
    "NULLIF of doubles": "0 and -0 differ in it",
}
ALL = bool(os.environ.get("SQL_ALL"))

TABLES = {
    "facts": {"id": "int", "k": "int", "g": "text", "i": "int", "d": "dec", "f": "float", "day": "date", "b": "bool", "s": "text"},
    "dims": {"key": "int", "name": "text", "region": "text", "w": "dec", "since": "date", "open": "bool"},
    "few": {"nr": "int", "x": "int", "y": "text", "z": "float"},
}
UNIQUE = {"facts": "id", "dims": "key", "few": "nr"}
KEYS = {("facts", "dims"): ("k", "key"), ("dims", "facts"): ("key", "k"), ("facts", "few"): ("i", "x"), ("few", "facts"): ("x", "i"),
        ("dims", "few"): ("key", "x"), ("few", "dims"): ("x", "key"), ("facts", "facts"): ("id", "i"), ("dims", "dims"): ("key", "key"),
        ("few", "few"): ("x", "nr")}
WORDS = ["", "a", "ab", "stone", "Stone", "ärger", "%", "x_y", " pad ", "zz"]
SETS = ["UNION", "UNION ALL", "INTERSECT", "EXCEPT"] + ["INTERSECT ALL", "EXCEPT ALL"] * ALL
COMPARED = ["=", "<>", "<", "<=", ">", ">="]


class Query:
    """One query's dice. Columns in scope are (expression, type) pairs."""

    def __init__(self, seed):
        self.dice = random.Random(str(seed))
        self.names = 0

    def name(self, prefix="t"):
        self.names += 1
        return f"{prefix}{self.names}"

    def chance(self, share):
        return self.dice.random() < share

    def literal(self, kind):
        d = self.dice
        return {"int": lambda: str(d.choice([0, 1, 2, 3, 7, 10, 49, -1, -20, 500])),
                "dec": lambda: f"CAST({d.choice(['0', '1.5', '-2.25', '10', '99.99'])} AS DECIMAL(12,2))",
                "float": lambda: f"CAST({d.choice(['0', '0.5', '-1.25', '3', '100'])} AS DOUBLE)",
                "text": lambda: "'" + d.choice(WORDS) + "'",
                "bool": lambda: d.choice(["TRUE", "FALSE"]),
                "date": lambda: f"DATE '20{d.randint(20, 24)}-{d.randint(1, 12):02}-{d.randint(1, 28):02}'"}[kind]()

    def expression(self, scope, kind, depth=2):
        """An expression of a type over the columns in scope."""
        d = self.dice
        columns = [e for e, k in scope if k == kind]
        if depth <= 0 or self.chance(0.3):
            return d.choice(columns) if columns and self.chance(0.85) else self.literal(kind)

        def deeper(kind):
            return self.expression(scope, kind, depth - 1)
        if self.chance(0.12):
            return f"CASE WHEN {deeper('bool')} THEN {deeper(kind)} " + (f"ELSE {deeper(kind)} END" if self.chance(0.7) else "END")
        if self.chance(0.08):
            return f"COALESCE({deeper(kind)}, {self.literal(kind)})"
        if self.chance(0.05):
            if kind != "float" or ALL:
                return f"NULLIF({deeper(kind)}, {self.literal(kind)})"
        if kind != "bool" and self.chance(0.05):
            return f"{d.choice(['GREATEST', 'LEAST'])}({deeper(kind)}, {deeper(kind)})"
        return {"int": self.integer, "dec": self.decimal, "float": self.double, "text": self.text, "bool": self.boolean,
                "date": self.date}[kind](deeper)

    def integer(self, deeper):
        return self.dice.choice([
            lambda: f"({deeper('int')} {self.dice.choice('+-')} {deeper('int')})",
            lambda: f"({deeper('int')} * {self.dice.randint(-3, 5)})",
            lambda: f"({deeper('int')} % {self.dice.choice([2, 3, 7, 10])})",
            lambda: f"abs({deeper('int')})",
            lambda: f"CAST(length({deeper('text')}) AS BIGINT)",
            lambda: f"CAST(strpos({deeper('text')}, {self.literal('text')}) AS BIGINT)",
            lambda: f"CAST(extract({self.dice.choice(['year', 'month', 'day', 'quarter', 'doy'])} FROM {deeper('date')}) AS BIGINT)",
            lambda: f"CAST({deeper('bool')} AS INTEGER)",
        ])()

    def decimal(self, deeper):
        return self.dice.choice([
            lambda: f"({deeper('dec')} {self.dice.choice('+-')} {deeper('dec')})",
            lambda: f"abs({deeper('dec')})",
            lambda: f"(- {deeper('dec')})",
            lambda: f"CAST({deeper('int')} AS DECIMAL(12,2))",
        ])()

    def double(self, deeper):
        return self.dice.choice([
            lambda: f"({deeper('float')} {self.dice.choice('+-*')} {deeper('float')})",
            lambda: f"({deeper('float')} / (abs({deeper('float')}) + 0.5))",
            lambda: f"CAST({deeper(self.dice.choice(['int', 'dec']))} AS DOUBLE)",
            lambda: f"{self.dice.choice(['floor', 'ceil', 'abs'])}({deeper('float')})",
            lambda: f"sqrt(abs({deeper('float')}))",
        ])()

    def text(self, deeper):
        return self.dice.choice([
            lambda: f"({deeper('text')} || {deeper('text')})",
            lambda: f"{self.dice.choice(['upper', 'lower', 'trim', 'reverse'])}({deeper('text')})",
            lambda: f"substr({deeper('text')}, {self.dice.randint(1, 3)}, {self.dice.randint(0, 4)})",
            lambda: f"replace({deeper('text')}, {self.dice.choice(['o', 'a', 'ö'])!r}, {self.literal('text')})",
            lambda: f"CAST({deeper(self.dice.choice(['int', 'date']))} AS VARCHAR)",
            lambda: f"concat({deeper('text')}, {deeper('text')})",
            lambda: f"{self.dice.choice(['left', 'right'])}({deeper('text')}, {self.dice.randint(0, 3)})",
        ])()

    def date(self, deeper):
        return self.dice.choice([
            lambda: f"CAST({deeper('date')} + INTERVAL '{self.dice.randint(-29, 29)} days' AS DATE)",
            lambda: f"CAST({deeper('date')} + INTERVAL '{self.dice.randint(1, 14)} months' AS DATE)",
            lambda: f"CAST(date_trunc('{self.dice.choice(['year', 'quarter', 'month', 'week'])}', {deeper('date')}) AS DATE)",
        ])()

    def boolean(self, deeper):
        d = self.dice
        kind = d.choice(["int", "dec", "float", "text", "date"])

        def listed():
            values = [self.literal(kind) for _ in range(d.randint(1, 4))] + (["NULL"] if self.chance(0.15) else [])
            return f"({deeper(kind)} {d.choice(['IN', 'NOT IN'])} ({', '.join(values)}))"
        return d.choice([
            lambda: f"({deeper(kind)} {d.choice(COMPARED)} {deeper(kind)})",
            lambda: f"({deeper(kind)} {d.choice(COMPARED)} {self.literal(kind)})",
            lambda: f"({deeper('bool')} {d.choice(['AND', 'OR'])} {deeper('bool')})",
            lambda: f"(NOT {deeper('bool')})",
            lambda: f"({deeper(kind)} IS {d.choice(['', 'NOT '])}NULL)",
            lambda: f"({deeper('bool')} IS {d.choice(['', 'NOT '])}{d.choice(['TRUE', 'FALSE'])})" if ALL else f"COALESCE({deeper('bool')}, FALSE)",
            lambda: f"({deeper(kind)} IS {d.choice(['', 'NOT '])}DISTINCT FROM {deeper(kind)})",
            lambda: f"({deeper(kind)} {d.choice(['', 'NOT '])}BETWEEN {self.literal(kind)} AND {self.literal(kind)})",
            lambda: f"({deeper('text')} {d.choice(['', 'NOT '])}LIKE '{d.choice(['%o%', 'S%', '_t%', '%', 'a_', '%e'])}')",
            listed,
        ])()

    # Where rows come from.

    def table(self, depth):
        """(SQL of a FROM item, its scope, its unique column or None, its base table or None)."""
        if depth > 0 and self.chance(0.2):
            alias = self.name("q")
            sql, columns = self.select(depth - 1, inner=True)
            return f"({sql}) AS {alias}", [(f"{alias}.{c}", k) for c, k in columns], None, None
        base = self.dice.choices(list(TABLES), [6, 3, 2])[0]
        alias = self.name()
        return f"{base} AS {alias}", [(f"{alias}.{c}", k) for c, k in TABLES[base].items()], f"{alias}.{UNIQUE[base]}", base

    def source(self, depth):
        """(FROM, scope, expressions that are unique together or None)."""
        sql, scope, unique, base = self.table(depth)
        uniques, bases = [unique], {base} - {None}
        for _ in range(self.dice.choices([0, 1, 2], [5, 4, 1])[0]):
            right, right_scope, right_unique, right_base = self.table(depth - 1)
            if not ALL and right_base in bases:
                continue
            bases |= {right_base} - {None}
            kind = self.dice.choice(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
            on = self.condition(scope, base, right_scope, right_base)
            if on is None:
                break
            # Only equalities keep FULL JOIN plannable everywhere.
            if kind != "FULL JOIN" and self.chance(0.25):
                on += f" AND {self.expression(scope + right_scope, 'bool', 1)}"
            sql += f" {kind} {right} ON {on}"
            scope, base = scope + right_scope, None
            uniques.append(right_unique)
        return sql, scope, None if None in uniques else uniques

    def condition(self, scope, base, right_scope, right_base):
        if (base, right_base) in KEYS:
            left, right = KEYS[base, right_base]
            return f"{scope[0][0].split('.')[0]}.{left} = {right_scope[0][0].split('.')[0]}.{right}"
        for kind in ("int", "date", "text"):
            left, right = ([e for e, k in s if k == kind] for s in (scope, right_scope))
            if left and right:
                return f"{self.dice.choice(left)} = {self.dice.choice(right)}"
        return None

    def where(self, scope, depth):
        parts = [self.expression(scope, "bool", 2) for _ in range(self.dice.choices([0, 1, 2], [3, 5, 2])[0])]
        if depth > 0 and self.chance(0.25):
            parts.append(self.subquery(scope))
        if not ALL:
            parts = [p for p in parts if any(column in p for column, _ in scope)]
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def subquery(self, scope):
        """A condition with a query in it, some of them on the outer row."""
        base = self.dice.choice(list(TABLES))
        alias = self.name("u")
        inside = [(f"{alias}.{c}", k) for c, k in TABLES[base].items()]
        kind = self.dice.choice([k for k in ("int", "text", "date") if any(k == o for _, o in scope) and any(k == o for _, o in inside)] or ["int"])
        outer, inner = self.expression(scope, kind, 0), self.dice.choice([e for e, k in inside if k == kind] or [f"{alias}.{UNIQUE[base]}"])
        where = self.expression(inside, "bool", 1)
        column = self.dice.choice([e for e, k in scope if k == kind] or [outer])
        return self.dice.choice([
            lambda: f"{outer} IN (SELECT {inner} FROM {base} AS {alias} WHERE {where})",
            lambda: f"{outer} NOT IN (SELECT {inner} FROM {base} AS {alias} WHERE {where} AND {inner} IS NOT NULL)",
            lambda: f"{self.dice.choice(['', 'NOT '])}EXISTS (SELECT 1 FROM {base} AS {alias} WHERE {inner} = {column} AND {where})",
            lambda: f"{outer} {self.dice.choice(COMPARED)} (SELECT {self.dice.choice(['min', 'max'])}({inner}) FROM {base} AS {alias} WHERE {where})",
            lambda: f"(SELECT count(*) FROM {base} AS {alias} WHERE {inner} = {column}) {self.dice.choice(COMPARED)} {self.dice.randint(0, 3)}",
        ])()

    # SELECT.

    def aggregate(self, scope):
        """(expression, type)"""
        d = self.dice
        kind = d.choice(["int", "dec", "float", "text", "date"])
        inside = self.expression(scope, kind, 1)
        choice = d.choice(["count", "star", "distinct", "extreme", "sum", "avg", "spread", "truth"])
        if choice in ("sum", "avg", "spread") and kind in ("text", "date"):
            kind, inside = "int", self.expression(scope, "int", 1)
        if choice in ("avg", "spread"):
            inside = f"CAST({inside} AS DOUBLE)"
        sql, kind = {
            "count": (f"count({inside})", "int"), "star": ("count(*)", "int"), "distinct": (f"count(DISTINCT {inside})", "int"),
            "extreme": (f"{d.choice(['min', 'max'])}({inside})", kind), "sum": (f"sum({inside})", kind),
            "avg": (f"avg({inside})", "float"), "spread": (f"{d.choice(['var_pop', 'stddev_pop'])}({inside})", "float"),
            "truth": (f"{d.choice(['bool_and', 'bool_or'])}({self.expression(scope, 'bool', 1)})", "bool")}[choice]
        if self.chance(0.15):
            sql += f" FILTER (WHERE {self.expression(scope, 'bool', 1)})"
        return sql, kind

    def window(self, scope, uniques):
        d = self.dice
        kind = d.choice(["int", "dec", "text", "date"])
        inside = self.expression(scope, kind, 0)
        partition = f"PARTITION BY {self.expression(scope, d.choice(['text', 'int', 'bool']), 0)} " if self.chance(0.6) else ""
        how = f"{d.choice(['ASC', 'DESC'])} NULLS {d.choice(['FIRST', 'LAST'])}"
        order = f"ORDER BY {self.expression(scope, d.choice(['int', 'date']), 0)} {how}"
        total = order + "".join(f", {u} NULLS LAST" for u in uniques)
        frame = d.choice(["", " ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
                          " ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING", " ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"])
        return d.choice([
            lambda: (f"row_number() OVER ({partition}{total})", "int"),
            lambda: (f"{d.choice(['rank', 'dense_rank'])}() OVER ({partition}{order})", "int"),
            lambda: (f"ntile({d.randint(2, 5)}) OVER ({partition}{total})", "int"),
            lambda: (f"{d.choice(['lag', 'lead'])}({inside}, {d.randint(1, 3)}) OVER ({partition}{total})", kind),
            lambda: (f"{d.choice(['first_value', 'last_value'])}({inside}) OVER ({partition}{total}{frame})", kind),
            lambda: (f"{d.choice(['min', 'max', 'count'])}({inside}) OVER ({partition}{total}{frame})", None),
            lambda: (f"sum({self.expression(scope, d.choice(['int', 'dec']), 0)}) OVER ({partition}{total}{frame})", "float"),
            lambda: (f"count(*) OVER ({partition.strip()})", "int"),
        ])()

    def select(self, depth, inner=False, kinds=None):
        """(SQL, columns as (name, type)); `kinds` asks for columns of these types."""
        d = self.dice
        sql_from, scope, uniques = self.source(depth)
        where = self.where(scope, depth)
        shape = "plain" if kinds else d.choices(["plain", "grouped", "whole", "window"], [4, 4, 0 if inner and not ALL else 1, 0 if inner or uniques is None else 2])[0]
        if shape == "whole":
            chosen = [self.aggregate(scope) for _ in range(d.randint(1, 4))]
            tail = ""
        elif shape == "grouped":
            keys = []
            for _ in range(d.randint(1, 3)):
                kind = d.choice(["int", "text", "date", "bool"])
                keys.append((self.expression(scope, kind, 1 if self.chance(0.3) else 0), kind))
            keys = [(e, k) for n, (e, k) in enumerate(keys) if any(e == c for c, _ in scope) and e not in [o for o, _ in keys[:n]]] or [scope[0]]
            chosen = keys + [self.aggregate(scope) for _ in range(d.randint(1, 3))]
            listed = ", ".join(e for e, _ in keys)
            tail = f" GROUP BY {listed}" if self.chance(0.8) else f" GROUP BY {d.choice(['ROLLUP', 'CUBE'])} ({listed})"
            if self.chance(0.25):
                tail += f" HAVING {d.choice(['count(*)', f'count({scope[0][0]})'])} {d.choice(COMPARED)} {d.randint(0, 20)}"
        else:
            wanted = kinds or [d.choice(["int", "dec", "float", "text", "date", "bool"]) for _ in range(d.randint(1, 5))]
            chosen = [(self.expression(scope, k, 2), k) for k in wanted]
            if shape == "window":
                chosen = chosen[:2] + [self.window(scope, uniques) for _ in range(d.randint(1, 2))]
            tail = ""
        columns = [(self.name("c"), kind) for _, kind in chosen]
        distinct = "DISTINCT " if shape == "plain" and self.chance(0.15) else ""
        sql = f"SELECT {distinct}" + ", ".join(f"{e} AS {n}" for (e, _), (n, _) in zip(chosen, columns)) + f" FROM {sql_from}{where}{tail}"
        if not inner and not kinds and self.chance(0.3) and all(k not in ("float", None) for _, k in columns):
            order = ", ".join(f"{n} {d.choice(['ASC', 'DESC'])} NULLS {d.choice(['FIRST', 'LAST'])}" for n, _ in columns)
            sql += f" ORDER BY {order} LIMIT {d.randint(1, 50)}" + (f" OFFSET {d.randint(0, 10)}" if self.chance(0.3) else "")
        return sql, [(n, k or "int") for n, k in columns if inner is False or k] or columns

    def top(self):
        if self.chance(0.12):
            kinds = [self.dice.choice(["int", "text", "date", "bool"]) for _ in range(self.dice.randint(1, 3))]
            sets = [self.select(1, kinds=kinds)[0] for _ in range(self.dice.randint(2, 3))]
            out = f"({sets[0]})"
            for other in sets[1:]:
                out = f"({out} {self.dice.choice([*SETS])} ({other}))"
            return f"SELECT * FROM {out} AS united"
        if self.chance(0.12):
            inside, columns = self.select(1, inner=True)
            scope = [(f"cte.{n}", k) for n, k in columns]
            body = ", ".join(f"{self.expression(scope, k, 1)} AS c{n}" for n, (_, k) in enumerate(scope, 1))
            return f"WITH cte AS ({inside}) SELECT {body} FROM cte{self.where(scope, 1)}"
        return self.select(2)[0]


def query(seed) -> str:
    return Query(seed).top()
