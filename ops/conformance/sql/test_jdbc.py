"""PostgreSQL's JDBC driver: prepared on the server from the fifth time on, batches, cursors, transactions, metadata."""

import jdbc
import pytest


@pytest.fixture
def connection(target):
    with jdbc.connect(target) as connection:
        yield connection


def state(error) -> str:
    return str(error.value.getSQLState())


def test_prepared_on_the_server(target, numbers):
    with jdbc.connect(target, prepareThreshold=5) as connection:
        with connection.prepareStatement(f"SELECT s, f, n FROM '{numbers}' WHERE n = ?") as statement:
            used = []
            for n in range(1, 10):
                statement.setLong(1, n)
                assert jdbc.rows(statement.executeQuery()) == [(f"row {n}", n / 2, n)]
                used.append(bool(statement.unwrap(jdbc.jpype.JClass("org.postgresql.PGStatement")).isUseServerPrepare()))
            assert not any(used[:3]) and all(used[4:])


def test_values_there_and_back(connection):
    from java.lang import Integer, Long, Short
    from java.math import BigDecimal
    from java.sql import Date, Timestamp
    values = [Short(5), Integer(70_000), Long(2**40), 1.5, True, "Grüße", BigDecimal("12.50"), Date.valueOf("2024-01-02"),
              Timestamp.valueOf("2024-01-02 03:04:05.000678")]
    for value in values:
        with connection.prepareStatement("SELECT ?") as statement:
            for _ in range(7):  # Text at first, binary once it is prepared on the server.
                statement.setObject(1, value)
                with statement.executeQuery() as result:
                    assert result.next()
                    found = result.getTimestamp(1) if isinstance(value, Timestamp) else (
                        result.getDate(1) if isinstance(value, Date) else result.getObject(1))
                    if isinstance(value, BigDecimal):
                        assert result.getBigDecimal(1).compareTo(value) == 0
                    else:
                        assert found == value
    with connection.prepareStatement("SELECT ?::bigint, ?::text") as statement:
        statement.setNull(1, jdbc.jpype.JClass("java.sql.Types").BIGINT)
        statement.setString(2, None)
        assert jdbc.rows(statement.executeQuery()) == [(None, None)]


def test_batches(connection, table):
    with connection.createStatement() as statement:
        statement.execute("CREATE TABLE clients.batch AS SELECT 0::bigint AS n, 'zero' AS s")
        with connection.prepareStatement("INSERT INTO clients.batch VALUES (?, ?)") as insert:
            for n in range(1, 8):
                insert.setLong(1, n)
                insert.setString(2, f"row {n}")
                insert.addBatch()
            assert list(insert.executeBatch()) == [1] * 7
        assert jdbc.ask(connection, "SELECT count(*), sum(n), count(DISTINCT s) FROM clients.batch") == [(8, 28, 8)]
        statement.execute("DROP TABLE clients.batch")


def test_batches_rewritten_as_one_statement(target, table):
    with jdbc.connect(target, reWriteBatchedInserts=True) as connection, connection.createStatement() as statement:
        statement.execute("CREATE TABLE clients.rewritten AS SELECT 0::bigint AS n")
        with connection.prepareStatement("INSERT INTO clients.rewritten VALUES (?)") as insert:
            for n in range(1, 101):
                insert.setLong(1, n)
                insert.addBatch()
            assert len(insert.executeBatch()) == 100
        assert jdbc.ask(connection, "SELECT count(*), sum(n) FROM clients.rewritten") == [(101, 5050)]
        statement.execute("DROP TABLE clients.rewritten")


def test_a_rollback_is_real(target, connection, table):
    connection.setAutoCommit(False)
    with connection.createStatement() as statement, jdbc.connect(target) as other:
        statement.execute("CREATE TABLE clients.undone AS SELECT 1 AS n")
        assert jdbc.ask(connection, "SELECT n FROM clients.undone") == [(1,)]
        connection.rollback()
        for who in (connection, other):
            with pytest.raises(jdbc.jpype.JException) as error:
                jdbc.ask(who, "SELECT n FROM clients.undone")
            assert state(error) == "42P01"
        with pytest.raises(jdbc.jpype.JException) as error:
            statement.execute("SELECT 1")
        assert state(error) == "25P02"
        connection.rollback()
        statement.execute("CREATE TABLE clients.undone AS SELECT 2 AS n")
        connection.commit()
        assert jdbc.ask(other, "SELECT n FROM clients.undone") == [(2,)]
        statement.execute("DROP TABLE clients.undone")
        connection.commit()


def test_a_cursor_in_parts(connection, numbers):
    connection.setAutoCommit(False)
    with connection.prepareStatement(f"SELECT n FROM '{numbers}' ORDER BY n") as statement:
        statement.setFetchSize(7)
        assert [n for (n,) in jdbc.rows(statement.executeQuery())] == list(range(1000))
        statement.setMaxRows(10)
        assert len(jdbc.rows(statement.executeQuery())) == 10
    connection.rollback()


def test_a_timeout_cancels(connection):
    with connection.createStatement() as statement:
        statement.setQueryTimeout(1)
        with pytest.raises(jdbc.jpype.JException) as error:
            statement.executeQuery("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b")
        assert state(error) == "57014"
    assert jdbc.ask(connection, "SELECT 1") == [(1,)]


def test_settings_of_a_connection(target, table):
    with jdbc.connect(target, currentSchema="clients", ApplicationName="tool", options="-c statement_timeout=60s") as connection:
        assert connection.getSchema() == "clients"
        assert jdbc.ask(connection, "SELECT count(*) FROM numbers") == [(1000,)]
        assert jdbc.ask(connection, "SHOW application_name") == [("tool",)]
        connection.setReadOnly(True)
        assert connection.isValid(5)


def fault(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


# DatabaseMetaData: what every Java tool fills its tree from.

@pytest.fixture
def metadata(connection, table):
    return connection.getMetaData()


def test_schemas_and_catalogs(metadata):
    assert {"public", "system", "information_schema", "clients"} <= {s["TABLE_SCHEM"] for s in jdbc.named(metadata.getSchemas())}
    assert "ashlar" in {c["TABLE_CAT"] for c in jdbc.named(metadata.getCatalogs())}


def test_tables(metadata):
    found = {t["TABLE_NAME"]: t["TABLE_TYPE"] for t in jdbc.named(metadata.getTables(None, "clients", "%", None))}
    assert found["numbers"] in ("TABLE", "FOREIGN TABLE") and found["few"] == "VIEW"
    only = jdbc.named(metadata.getTables("ashlar", "clients", "%", ["VIEW"]))
    assert [t["TABLE_NAME"] for t in only] == ["few"]


def test_columns(metadata):
    found = [(c["COLUMN_NAME"], c["TYPE_NAME"], c["ORDINAL_POSITION"])
             for c in jdbc.named(metadata.getColumns(None, "clients", "numbers", "%"))]
    assert found == [("n", "int8", 1), ("s", "text", 2), ("f", "float8", 3)]


@fault("a correlated scalar subquery over pg_namespace is refused, where one row is found for each")
def test_types(metadata):
    assert {"int8", "text", "float8", "numeric", "timestamptz"} <= {t["TYPE_NAME"] for t in jdbc.named(metadata.getTypeInfo())}


@pytest.mark.parametrize("what", [
    pytest.param("PrimaryKeys", marks=fault("information_schema._pg_expandarray is missing")),
    pytest.param("ImportedKeys", marks=fault("pg_settings has no max_index_keys")),
    pytest.param("ExportedKeys", marks=fault("pg_settings has no max_index_keys")),
    pytest.param("VersionColumns", marks=fault("pg_type.typinput is compared as a number"))])
def test_keys_that_there_are_none_of(metadata, what):
    assert jdbc.rows(getattr(metadata, f"get{what}")(None, "clients", "numbers")) == []


@fault("information_schema._pg_expandarray is missing")
def test_indexes_that_there_are_none_of(metadata):
    assert jdbc.rows(metadata.getIndexInfo(None, "clients", "numbers", False, True)) == []
    assert jdbc.rows(metadata.getBestRowIdentifier(None, "clients", "numbers", 0, True)) == []


@pytest.mark.parametrize("what", [
    pytest.param("Functions", marks=fault("pg_get_function_result is missing")),
    pytest.param("Procedures", marks=fault("two unnamed NULL columns of one SELECT are refused"))])
def test_functions_and_procedures(metadata, what):
    jdbc.rows(getattr(metadata, f"get{what}")(None, "pg_catalog", "%"))


@fault("pg_class.relacl is missing")
def test_privileges(metadata):
    jdbc.rows(metadata.getTablePrivileges(None, "clients", "numbers"))
    jdbc.rows(metadata.getColumnPrivileges(None, "clients", "numbers", "%"))


@fault("a correlated scalar subquery over pg_namespace is refused, where one row is found for each")
def test_user_defined_types(metadata):
    assert jdbc.rows(metadata.getUDTs(None, "clients", "%", None)) == []


def test_words_and_lengths(metadata):
    assert "analyze" in str(metadata.getSQLKeywords())
    assert metadata.getMaxColumnNameLength() == 63


def test_result_metadata(connection, table):
    with connection.prepareStatement("SELECT n, s AS text FROM clients.numbers WHERE n = ?") as statement:
        described = statement.getMetaData()
        assert [described.getColumnLabel(n) for n in (1, 2)] == ["n", "text"]
        assert [described.getColumnTypeName(n) for n in (1, 2)] == ["int8", "text"]
        assert statement.getParameterMetaData().getParameterTypeName(1) == "int8"
        with connection.createStatement() as plain:
            described = plain.executeQuery("SELECT n FROM clients.numbers LIMIT 1").getMetaData()
            assert described.getPrecision(1) == 19 and described.isNullable(1) in (0, 1, 2)
