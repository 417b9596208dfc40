"""SQLAlchemy 2 over psycopg 3 and psycopg2: connecting, parameters, reflection."""

import datetime
import decimal

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


def fault(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.mark.parametrize("what", [
    pytest.param("columns", marks=fault("json_build_object is missing")),
    pytest.param("pk_constraint", marks=fault("unnest of an int2vector is refused")),
    pytest.param("indexes", marks=fault("unnest of an int2vector is refused")),
    pytest.param("unique_constraints", marks=fault("unnest of an int2vector is refused")),
    "foreign_keys", "check_constraints", "table_comment"])
def test_reflection_of_a_table(engine, table, what):
    found = getattr(sqlalchemy.inspect(engine), f"get_{what}")("numbers", schema="clients")
    if what == "columns":
        assert [column["name"] for column in found] == ["n", "s", "f"]


@fault("pg_get_viewdef answers NULL")
def test_the_text_of_a_view(engine, table):
    assert "clients.numbers" in sqlalchemy.inspect(engine).get_view_definition("few", schema="clients")


def test_a_table_made_and_filled(engine, table):
    made = sqlalchemy.Table("alchemy", sqlalchemy.MetaData(schema="clients"), sqlalchemy.Column("id", sqlalchemy.Integer),
                            sqlalchemy.Column("s", sqlalchemy.String(20)), sqlalchemy.Column("d", sqlalchemy.Numeric(10, 2)),
                            sqlalchemy.Column("at", sqlalchemy.DateTime(timezone=True)))
    made.drop(engine, checkfirst=True)
    made.create(engine)
    when = datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    with engine.begin() as connection:
        connection.execute(made.insert(), [{"id": 1, "s": "a", "d": decimal.Decimal("1.10"), "at": when}, {"id": 2, "s": None, "d": None, "at": None}])
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.select(made).order_by(made.c.id)).all() == [(1, "a", decimal.Decimal("1.10"), when), (2, None, None, None)]
    made.drop(engine)
