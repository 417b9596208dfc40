"""SQLAlchemy 2 over psycopg 3 and psycopg2: connecting, parameters, reflection."""

import pytest
import sqlalchemy


@pytest.fixture(params=["psycopg", "psycopg2"])
def engine(request, target):
    engine = sqlalchemy.create_engine(f"postgresql+{request.param}://{target.address}")
    yield engine
    engine.dispose()


def test_parameters(engine):
    with engine.connect() as connection:
        found = connection.execute(sqlalchemy.text("SELECT :a + 1 AS n, :b AS s"), {"a": 4, "b": "x"}).one()
        assert (found.n, found.s) == (5, "x")


def test_reflection(engine, table):
    inspector = sqlalchemy.inspect(engine)
    assert {"public", "clients"} <= set(inspector.get_schema_names())
    assert "numbers" in inspector.get_table_names(schema="clients") + inspector.get_view_names(schema="clients")
    assert inspector.has_table("numbers", schema="clients") and not inspector.has_table("nope")


def test_a_select_of_core(engine, table):
    numbers = sqlalchemy.table("numbers", sqlalchemy.column("n"), sqlalchemy.column("s"), schema="clients")
    with engine.connect() as connection:
        query = sqlalchemy.select(numbers.c.s).where(numbers.c.n.in_([1, 2])).order_by(numbers.c.n)
        assert connection.execute(query).scalars().all() == ["row 1", "row 2"]
