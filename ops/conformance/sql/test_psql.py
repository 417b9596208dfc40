"""psql: queries, and the commands that ask pg_catalog."""

import os
import shutil
import subprocess

import pytest

pytestmark = pytest.mark.skipif(shutil.which("psql") is None, reason="psql is not installed")


def psql(target, *commands):
    env = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": str(target.pg_port), "PGUSER": target.access,
                        "PGPASSWORD": target.secret, "PGDATABASE": "ashlar"}
    arguments = [argument for command in commands for argument in ("-c", command)]
    done = subprocess.run(["psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", *arguments], env=env,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_queries(target, numbers):
    assert psql(target, f"SELECT n, s FROM '{numbers}' WHERE n < 2 ORDER BY n") == "0|\n1|row 1\n"
    assert psql(target, "BEGIN", "SELECT 1", "ROLLBACK").split() == ["BEGIN", "1", "ROLLBACK"]


def test_what_there_is(target, table):
    assert "ashlar" in psql(target, "\\l")
    assert "clients" in psql(target, "\\dn")
    assert "numbers" in psql(target, "\\dt clients.*")
    assert "few" in psql(target, "\\dv clients.*")
    described = psql(target, "\\d clients.numbers")
    assert "n|bigint" in described and "s|text" in described and "f|double precision" in described


def test_copy_to_a_file(target, numbers, tmp_path):
    file = tmp_path / "out.csv"
    psql(target, f"\\copy (SELECT n FROM '{numbers}' WHERE n < 3 ORDER BY n) TO '{file}' WITH (FORMAT csv, HEADER)")
    assert file.read_text() == "n\n0\n1\n2\n"


def fault(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.mark.parametrize("command", [
    "\\di", "\\ds", "\\dx", "\\encoding", "\\conninfo",
    *[pytest.param(command, marks=fault("pg_size_pretty is missing")) for command in ("\\dt+ clients.*", "\\dv+ clients.*", "\\l+")],
    pytest.param("\\dT", marks=fault("a correlated scalar subquery is refused, where one row is found for each")),
    pytest.param("\\dp", marks=fault("pg_class.relacl is missing")),
    pytest.param("\\d+ clients.numbers", marks=fault("array() of a query is not known")),
    pytest.param("\\df", marks=fault("pg_get_function_result is missing")),
    pytest.param("\\du", marks=fault("array() of a query is not known")),
    pytest.param("\\dn+", marks=fault("array_to_string of an access list that is text"))])
def test_commands_that_ask_more(target, table, command):
    psql(target, command)
