"""ADBC: the PostgreSQL driver, which reads by COPY in binary, and the Flight SQL driver; pyarrow's own client."""

import threading

import adbc_driver_flightsql.dbapi
import adbc_driver_manager
import adbc_driver_postgresql.dbapi
import pyarrow.flight
import pytest


@pytest.fixture
def flight(target):
    with adbc_driver_flightsql.dbapi.connect(
            target.grpc, db_kwargs={"username": target.access, "password": target.secret}, autocommit=True) as connection:
        yield connection


@pytest.mark.parametrize("copy", ["true", "false"])
def test_postgresql(target, numbers, copy):
    with adbc_driver_postgresql.dbapi.connect(f"postgresql://{target.address}", autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": copy})
            cursor.execute(f"SELECT n, s, f FROM '{numbers}' ORDER BY n")
            found = cursor.fetch_arrow_table()
    assert found.column("n").to_pylist() == list(range(1000))
    assert found.slice(10, 2).to_pylist() == [{"n": 10, "s": None, "f": 5.0}, {"n": 11, "s": "row 11", "f": 5.5}]


def test_statements_and_parameters(flight, numbers):
    with flight.cursor() as cursor:
        cursor.execute(f"SELECT * FROM '{numbers}'")
        assert cursor.fetch_arrow_table().num_rows == 1000
        cursor.execute(f"SELECT s FROM '{numbers}' WHERE n = $1", (7,))
        assert cursor.fetchall() == [("row 7",)]
        cursor.execute("SELECT value FROM generate_series(1, 300000)")
        assert cursor.fetch_arrow_table().num_rows == 300_000
        with pytest.raises(adbc_driver_manager.ProgrammingError, match="nope"):
            cursor.execute("SELECT nope")
        with pytest.raises(adbc_driver_manager.NotSupportedError):
            cursor.execute("SET statement_timeout = '1s'")


def test_metadata(flight, table):
    found = flight.adbc_get_objects(depth="tables").read_all().to_pylist()
    schemas = {schema["db_schema_name"]: schema for catalog in found for schema in catalog["catalog_db_schemas"]}
    assert {t["table_name"] for t in schemas["clients"]["db_schema_tables"]} >= {"numbers", "few"}
    assert [field.name for field in flight.adbc_get_table_schema("numbers", db_schema_filter="clients")] == ["n", "s", "f"]
    assert flight.adbc_get_info()["vendor_name"] == "Ashlar"


def test_cancel(flight):
    with flight.cursor() as cursor:
        threading.Timer(0.5, cursor.adbc_cancel).start()
        with pytest.raises(adbc_driver_manager.OperationalError):
            cursor.execute("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b")
            cursor.fetchall()
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == [(1,)]


def test_tokens(target):
    client = pyarrow.flight.FlightClient(target.grpc)
    name, token = client.authenticate_basic_token(target.access, target.secret)
    assert name == b"authorization" and token.startswith(b"Bearer ")
    with adbc_driver_flightsql.dbapi.connect(
            target.grpc, db_kwargs={"adbc.flight.sql.authorization_header": token.decode()}, autocommit=True) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            assert cursor.fetchall() == [(1,)]
    with pytest.raises(pyarrow.flight.FlightUnauthenticatedError):
        client.authenticate_basic_token(target.access, "wrong-secret")
