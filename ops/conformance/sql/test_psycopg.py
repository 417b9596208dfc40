"""psycopg 3: both formats of every type, prepared statements, transactions that are real, COPY, cancel."""

import datetime
import decimal
import os
import threading

import psycopg
import pytest

VALUES = [
    5, 70_000, 2**40, 1.5, True, "text", b"\x00\xff", decimal.Decimal("12.5"), None,
    datetime.date(2024, 1, 2), datetime.time(1, 2, 3), datetime.timedelta(days=2, hours=3),
    datetime.datetime(2024, 1, 2, 3, 4, 5, 678), datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    [1, 2, 3],
]


@pytest.fixture
def connection(target):
    with psycopg.connect(target.dsn) as connection:
        yield connection


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_there_and_back(connection, value, binary):
    cursor = connection.cursor(binary=binary)
    for placeholder in ("%s", "%b"):
        found = cursor.execute(f"SELECT {placeholder}", (value,)).fetchone()[0]
        assert found == value and type(found) is type(value)


def test_prepared(connection, numbers):
    for n in range(10):
        found = connection.execute(f"SELECT s, f FROM '{numbers}' WHERE n = %s", (n,), prepare=True).fetchall()
        assert found == [(f"row {n}" if n else None, n / 2)]


def test_many_rows_come_in_parts(connection, numbers):
    assert sum(1 for _ in connection.cursor().stream(f"SELECT * FROM '{numbers}' a CROSS JOIN (VALUES (1), (2)) b")) == 2000


def test_rollback_is_real(target, table):
    with psycopg.connect(target.dsn) as one, psycopg.connect(target.dsn, autocommit=True) as other:
        one.execute("CREATE TABLE clients.written AS SELECT 1 AS n")
        assert one.execute("SELECT n FROM clients.written").fetchall() == [(1,)]
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("SELECT n FROM clients.written")
        one.rollback()
        with pytest.raises(psycopg.errors.UndefinedTable):
            one.execute("SELECT n FROM clients.written")
        one.rollback()
        one.execute("CREATE TABLE clients.written AS SELECT 2 AS n")
        one.commit()
        assert other.execute("SELECT n FROM clients.written").fetchall() == [(2,)]
        assert other.execute("INSERT INTO clients.written VALUES (3), (4)").rowcount == 2
        other.execute("DROP TABLE clients.written")


def test_after_an_error_only_the_end(connection):
    with pytest.raises(psycopg.errors.UndefinedColumn):
        connection.execute("SELECT nope")
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        connection.execute("SELECT 1")
    connection.rollback()
    with connection.transaction(), pytest.raises(psycopg.errors.UndefinedColumn), connection.transaction():
        connection.execute("SELECT nope")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_copy_out(connection, numbers):
    with connection.cursor().copy(f"COPY (SELECT n, s FROM '{numbers}' WHERE n < 3 ORDER BY n) TO STDOUT") as copy:
        assert list(copy.rows()) == [("0", None), ("1", "row 1"), ("2", "row 2")]


def test_cancel(connection):
    threading.Timer(0.5, connection.cancel_safe).start()
    with pytest.raises(psycopg.errors.QueryCanceled):
        connection.execute("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b")


@pytest.mark.skipif("SQL_TLS_ROOT" not in os.environ, reason="the server has no certificate")
def test_a_cancel_over_tls_tells_of_no_error(connection):
    assert connection.pgconn.ssl_in_use
    connection.cancel_safe(timeout=10)


@pytest.mark.skipif("SQL_TLS_ROOT" not in os.environ, reason="the server has no certificate")
def test_tls(target):
    root = os.environ["SQL_TLS_ROOT"]
    with psycopg.connect(f"{target.dsn} sslmode=verify-full sslrootcert={root}") as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_wrong_password(target):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(target.dsn.replace(target.secret, "wrong-secret"))
