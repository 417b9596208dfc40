#!/usr/bin/env python3
"""Checks unit.json with a second implementation of unit.md, written from the text alone.

With --write it makes the file anew. Needs: pip install blake3
"""

import base64
import json
import pathlib
import struct
import sys

from blake3 import blake3

FILE = pathlib.Path(__file__).with_name("unit.json")


def line(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"


def floats(numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def root(text):
    return "0x" + blake3(text.encode()).hexdigest()


def ask_units(ask, texts):
    (kind, of), = ask.items()
    units = texts + 1024
    if kind == "generate":
        units += of["choices"] * of["units_max"]
    if kind == "classify":
        words = of["labels"] + ([of["instructions"]] if of["instructions"] is not None else [])
        units += sum(len(word.encode()) + 1 for word in words)
    return units


def text_bytes(given):
    (kind, of), = given.items()
    return len(of.encode()) if kind == "text" else sum(len(m["text"].encode()) + 16 for m in of)


def usage_max(questions):
    header, *rows = map(json.loads, questions.split("\n")[:-1])
    return sum(ask_units(row.get("ask", header["ask"]), text_bytes(row["input"])) for row in rows)


def usage(answers):
    rows = [json.loads(text) for text in answers.split("\n")[1:-1]]
    return sum(row["usage"]["asked"] + row["usage"]["answered"] for row in rows if "usage" in row)


def questions(ask, rows, determinism=None):
    header = {"ashlar": "unit-questions", "version": 1, "model": root("model"), "determinism": determinism, "ask": ask}
    return "".join(map(line, [header, *rows]))


def answers(of, rows, determinism=None):
    header = {"ashlar": "unit-answers", "version": 1, "questions": root(of), "model": root("model"), "determinism": determinism}
    return "".join(map(line, [header, *rows]))


def generation(**other):
    of = {"choices": 1, "units_max": 16, "temperature": 700000, "top_p": 1000000, "presence_penalty": -250000,
          "frequency_penalty": 0, "seed": 2**64 - 1, "stop": ["\n\n"]}
    return {"generate": {**of, **other}}


def row(number, value, asked, answered):
    return {"row": number, "value": value, "usage": {"asked": asked, "answered": answered}}


def made():
    chat = {"chat": [{"role": "system", "text": "Say it back."}, {"role": "user", "text": "ü \"\\\" \x01\b\x7f\u2028 😀"}]}
    generate = questions(generation(), [
        {"row": 0, "input": chat},
        {"row": 7, "input": {"text": ""}, "ask": generation(choices=2, seed=0, stop=[])},
    ], root("class"))
    said = answers(generate, [
        row(0, {"said": [{"text": "ü\t", "finish": "stop"}]}, 9, 3),
        row(7, {"said": [{"text": "", "finish": "length"}, {"text": "x", "finish": "withheld"}]}, 0, 17),
    ], root("class"))
    embed = questions({"embed": {}}, [{"row": n, "input": {"text": text}} for n, text in enumerate(["a", "b", "a"])])
    vectors = answers(embed, [
        row(0, {"vector": floats([1.0, -0.5])}, 3, 0),
        {"row": 1, "error": {"code": "too_long", "message": "600 units, and 512 are the most", "retryable": False}},
        row(2, {"vector": floats([1.0, -0.5])}, 0, 0),
    ])
    classify = questions({"classify": {"labels": ["ham", "spam"], "instructions": None}}, [
        {"row": 2**64 - 1, "input": {"text": "free money"}},
    ])
    likely = answers(classify, [row(2**64 - 1, {"log_probabilities": floats([float("-inf"), 0.0])}, 6, 0)])
    nothing = questions({"embed": {}}, [])
    pairs = [(generate, said), (embed, vectors), (classify, likely), (nothing, answers(nothing, []))]
    units = [{"questions": q, "questions_root": root(q), "usage_max": str(usage_max(q)),
              "answers": a, "answers_root": root(a), "usage": str(usage(a))} for q, a in pairs]
    header, first, second, *_ = embed.split("\n")
    wrong = [
        ("", 0), (embed[:-1], 4), (embed + "\n", 5), (embed.replace('"b"', '"\\u0062"'), 3),
        (embed.replace('{"row":1,', '{"row": 1,'), 3), (embed.replace('"row":1', '"row":01'), 3),
        ("\n".join([header, second, first, ""]), 3), (embed.replace('"determinism":null', '"determinism":""'), 1),
        (embed.replace('"version":1,', ""), 1), (generate.replace('"top_p":1000000', '"top_p":0', 1), 1),
        (generate.replace('"temperature":700000', '"temperature":0.7', 1), 1),
        (classify.replace('"spam"', '"ham"'), 1), (embed.replace('"text":"a"', '"chat":[]', 1), 2),
        (embed.replace('"embed"', '"train"'), 1),
    ]
    wrong = [{"questions": text, "line": number} for text, number in wrong]
    about = "Vectors of docs/formats/unit.md. 64-bit integers as text; line 0: there is none."
    return {"about": about, "units": units, "wrong": wrong}


def main():
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="ascii")
    vectors = json.loads(FILE.read_text(encoding="ascii"))
    if vectors != made():
        sys.exit("the file is not what --write makes")
    print(f"{len(vectors['units'])} units and {len(vectors['wrong'])} that are none, every one as it must be")


main()
