"""Every file of logic/, each with sessions and a place of its own."""

import contextlib
import os
from pathlib import Path

import psycopg
import pyarrow.fs
import pytest

import slt
from conftest import BUCKET

FILES = sorted((Path(__file__).parent / "logic").glob("*.slt"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_file(target, numbers, file):
    place = f"{BUCKET}/logic/{file.stem}"
    s3 = pyarrow.fs.S3FileSystem(access_key=target.access, secret_key=target.secret, region="us-east-1",
                                 endpoint_override=os.environ["SQL_S3_ENDPOINT"])
    connections, wrong = {}, []
    records = slt.parse(file.read_text().replace("$PLACE", f"s3://{place}").replace("$BUCKET", BUCKET))
    with contextlib.ExitStack() as stack:
        for record in records:
            if record.head[0] == "object":
                with s3.open_output_stream(f"{place}/{record.head[1]}") as out:
                    out.write("".join(f"{line}\n" for line in record.body).encode())
                continue
            if record.connection not in connections:
                connections[record.connection] = stack.enter_context(psycopg.connect(target.dsn, autocommit=True))
            try:
                slt.run(record, connections[record.connection])
            except slt.Wrong as error:
                if not record.fault:
                    wrong.append(f"{file.name}:{record.line}: {error}\n{record.sql}")
            else:
                if record.fault:
                    wrong.append(f"{file.name}:{record.line}: holds now, and was marked: {record.fault}")
    assert not wrong, "\n\n".join(wrong)
