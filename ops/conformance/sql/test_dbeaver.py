"""What DBeaver asks when it connects and when its tree is opened, over JDBC as it does.

The statements are written after what its PostgreSQL support reads from pg_catalog, one for each folder of the tree.
"""

import jdbc
import pytest

def fault(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.fixture(scope="module")
def connection(target, table):
    with jdbc.connect(target, ApplicationName="DBeaver 26.1.0 - Main") as connection:
        yield connection


@pytest.fixture(scope="module")
def schema(connection):
    return jdbc.ask(connection, "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'clients'")[0][0]


@pytest.fixture(scope="module")
def numbers_oid(connection, schema):
    return jdbc.ask(connection, "SELECT oid FROM pg_catalog.pg_class WHERE relnamespace = ? AND relname = 'numbers'", schema)[0][0]


def test_connecting(connection):
    assert jdbc.ask(connection, "SELECT current_database()") == [("ashlar",)]
    assert jdbc.ask(connection, "SELECT current_schema(), session_user")[0][0] == "public"
    assert jdbc.ask(connection, "SHOW search_path") == [("public",)]
    assert "PostgreSQL" in jdbc.ask(connection, "SELECT version()")[0][0]
    with connection.createStatement() as statement:
        statement.execute("SET extra_float_digits = 3")
        statement.execute("SET application_name = 'DBeaver 26.1.0 - Metadata'")
        statement.execute("SET search_path = clients,public")
        assert jdbc.ask(connection, "SHOW search_path") == [("clients, public",)]
        statement.execute("SET search_path = public")


def test_databases(connection):
    found = jdbc.ask(connection, "SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE 1=1 AND datallowconn AND NOT datistemplate "
                                 "OR db.datname = ? ORDER BY db.datname", "ashlar")
    assert "ashlar" in [row[2] for row in found]


ON_CONNECTING = {
    "settings": "SELECT * FROM pg_catalog.pg_settings",
    "one setting": "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'",
    "access methods": "SELECT am.oid, am.* FROM pg_catalog.pg_am am ORDER BY am.oid",
    "languages": "SELECT l.oid, l.* FROM pg_catalog.pg_language l ORDER BY l.oid",
    "collations": "SELECT c.oid, c.* FROM pg_catalog.pg_collation c ORDER BY c.oid",
    "encodings": "SELECT DISTINCT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database",
    "tablespaces": "SELECT t.oid, t.*, pg_catalog.pg_tablespace_location(t.oid) AS loc FROM pg_catalog.pg_tablespace t ORDER BY t.oid",
    "roles": "SELECT a.oid, a.*, pd.description FROM pg_catalog.pg_roles a "
             "LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid ORDER BY a.rolname",
    "extensions": "SELECT e.oid, e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension e "
                  "JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace",
    "available extensions": "SELECT name, default_version, installed_version, comment FROM pg_catalog.pg_available_extensions",
    "words": "SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,abs,absolute}'::text[])",
    "whether there are sequences": "SELECT * FROM pg_catalog.pg_sequence WHERE 1<>1 LIMIT 1",
    "whether there are policies": "SELECT * FROM pg_catalog.pg_policy WHERE 1<>1 LIMIT 1",
    "whether there are event triggers": "SELECT * FROM pg_catalog.pg_event_trigger WHERE 1<>1 LIMIT 1",
    "foreign servers": "SELECT l.oid, l.*, p.* FROM pg_catalog.pg_foreign_server l "
                       "LEFT OUTER JOIN pg_catalog.pg_foreign_data_wrapper p ON p.oid = l.srvfdw",
    "types": "SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description "
             "FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem "
             "LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid "
             "LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid "
             "WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C')",
    "schemas": "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d "
               "ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname",
    "sessions": "SELECT sa.* FROM pg_catalog.pg_stat_activity sa",
    "locks": "SELECT * FROM pg_catalog.pg_locks",
    "casts": "SELECT c.oid, c.* FROM pg_catalog.pg_cast c",
}
FAULTS = {"available extensions": "pg_available_extensions is missing", "sessions": "pg_stat_activity is missing",
          "locks": "pg_locks is missing"}


def cases(statements):
    return [pytest.param(what, marks=[fault(FAULTS[what])] if what in FAULTS else []) for what in statements]


@pytest.mark.parametrize("what", cases(ON_CONNECTING))
def test_asked_on_connecting(connection, what):
    jdbc.ask(connection, ON_CONNECTING[what])


def test_tables_of_a_schema(connection, schema):
    found = jdbc.named(prepared(connection, TABLES, schema))
    kinds = {table["relname"]: table["relkind"] for table in found}
    assert kinds["few"] == "v" and kinds["numbers"] in ("r", "f")


def prepared(connection, sql, *parameters):
    statement = connection.prepareStatement(sql)
    statement.closeOnCompletion()
    for n, value in enumerate(parameters, 1):
        statement.setObject(n, value)
    return statement.executeQuery()


TABLES = (
    "SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, "
    "pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c "
    "LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass "
    "WHERE c.relnamespace = ? AND c.relkind NOT IN ('i', 'I', 'c')")
COLUMNS = (
    "SELECT c.relname, a.*, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) AS def_value, dsc.description, dep.objid "
    "FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON (a.attrelid = c.oid) "
    "LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON (a.attrelid = ad.adrelid AND a.attnum = ad.adnum) "
    "LEFT OUTER JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid) "
    "LEFT OUTER JOIN pg_catalog.pg_depend dep ON dep.refobjid = a.attrelid AND dep.deptype = 'i' "
    "AND dep.refobjsubid = a.attnum AND dep.classid = dep.refclassid "
    "WHERE NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'c') AND c.oid = ? ORDER BY a.attnum")


def test_columns_of_a_table(connection, numbers_oid):
    found = jdbc.named(prepared(connection, COLUMNS, numbers_oid))
    assert [column["attname"] for column in found if column["attnum"] > 0] == ["n", "s", "f"]
    types = jdbc.ask(connection, "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_catalog.pg_attribute a "
                                 "WHERE a.attrelid = ? AND a.attnum > 0 ORDER BY a.attnum", numbers_oid)
    assert types == [("n", "bigint"), ("s", "text"), ("f", "double precision")]


OF_A_TABLE = {
    "constraints": "SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description, "
                   "CASE WHEN c.contype = 'c' THEN \"substring\"(pg_get_constraintdef(c.oid), 7) ELSE null END consrc_copy "
                   "FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid "
                   "LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d "
                   "ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass WHERE c.conrelid = ? ORDER BY c.oid",
    "indexes": "SELECT i.*, i.indkey AS keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname AS tabrelname, dsc.description, "
               "pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) AS expr, "
               "pg_catalog.pg_relation_size(i.indexrelid) AS index_rel_size, pg_catalog.pg_stat_get_numscans(i.indexrelid) AS index_num_scans "
               "FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid "
               "INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid = dsc.objoid "
               "WHERE i.indrelid = ? ORDER BY tabrelname, c.relname",
    "triggers": "SELECT x.oid, x.*, p.pronamespace AS func_schema_id, d.description FROM pg_catalog.pg_trigger x "
                "LEFT OUTER JOIN pg_catalog.pg_proc p ON p.oid = x.tgfoid LEFT OUTER JOIN pg_catalog.pg_description d "
                "ON d.objoid = x.oid AND d.objsubid = 0 WHERE x.tgrelid = ? AND NOT x.tgisinternal",
    "parents": "SELECT i.*, c.relnamespace FROM pg_catalog.pg_inherits i, pg_catalog.pg_class c WHERE i.inhrelid = ? AND c.oid = i.inhparent ORDER BY i.inhseqno",
    "children": "SELECT i.*, c.relnamespace FROM pg_catalog.pg_inherits i, pg_catalog.pg_class c WHERE i.inhparent = ? AND c.oid = i.inhrelid",
    "rules": "SELECT r.oid, r.* FROM pg_catalog.pg_rewrite r WHERE r.ev_class = ? AND r.rulename <> '_RETURN'",
    "policies": "SELECT p.* FROM pg_catalog.pg_policy p WHERE p.polrelid = ?",
    "size": "SELECT pg_catalog.pg_total_relation_size(c.oid) AS total_rel_size, pg_catalog.pg_relation_size(c.oid) AS rel_size "
            "FROM pg_catalog.pg_class c WHERE c.oid = ?",
    "foreign server": "SELECT fs.srvname FROM pg_catalog.pg_foreign_table ft JOIN pg_catalog.pg_foreign_server fs ON fs.oid = ft.ftserver WHERE ft.ftrelid = ?",
    "references": "SELECT DISTINCT dep.deptype, dep.classid, dep.objid, cl.relkind FROM pg_catalog.pg_depend dep "
                  "LEFT JOIN pg_catalog.pg_class cl ON dep.objid = cl.oid WHERE dep.refobjid = ?",
}


@pytest.mark.parametrize("what", cases(OF_A_TABLE))
def test_asked_of_a_table(connection, numbers_oid, what):
    jdbc.ask(connection, OF_A_TABLE[what], numbers_oid)


OF_A_SCHEMA = {
    "functions": "SELECT p.oid, p.*, l.lanname, pg_catalog.pg_get_expr(p.proargdefaults, 0) AS arg_defaults, d.description FROM pg_catalog.pg_proc p "
                 "LEFT OUTER JOIN pg_catalog.pg_language l ON l.oid = p.prolang LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = p.oid "
                 "WHERE p.pronamespace = ? ORDER BY p.proname",
    "operators": "SELECT o.* FROM pg_catalog.pg_operator o WHERE o.oprnamespace = ?",
    "sizes": "SELECT c.oid, pg_catalog.pg_total_relation_size(c.oid) AS total_rel_size, pg_catalog.pg_relation_size(c.oid) AS rel_size "
             "FROM pg_catalog.pg_class c WHERE c.relnamespace = ?",
    "enumerations": "SELECT e.enumtypid, e.enumlabel FROM pg_catalog.pg_enum e JOIN pg_catalog.pg_type t ON t.oid = e.enumtypid WHERE t.typnamespace = ?",
    "search": "SELECT DISTINCT x.oid, x.relname, x.relnamespace, x.relkind FROM pg_catalog.pg_class x WHERE x.relkind IN ('r', 'v', 'm', 'f', 'p') "
              "AND x.relname ILIKE 'num%' AND x.relnamespace IN (?) ORDER BY x.relname LIMIT 100",
}


@pytest.mark.parametrize("what", cases(OF_A_SCHEMA))
def test_asked_of_a_schema(connection, schema, what):
    jdbc.ask(connection, OF_A_SCHEMA[what], schema)


@fault("pg_get_viewdef answers NULL")
def test_the_text_of_a_view(connection, schema):
    oid = jdbc.ask(connection, "SELECT oid FROM pg_catalog.pg_class WHERE relnamespace = ? AND relname = 'few'", schema)[0][0]
    [(text,)] = jdbc.ask(connection, "SELECT pg_catalog.pg_get_viewdef(?, true)", oid)
    assert "clients.numbers" in text


def test_the_data_of_a_table(connection):
    connection.setAutoCommit(False)
    try:
        with connection.createStatement() as statement:
            statement.setFetchSize(200)
            statement.setMaxRows(200)
            assert len(jdbc.rows(statement.executeQuery("SELECT x.* FROM clients.numbers x"))) == 200
        assert jdbc.ask(connection, "SELECT count(*) FROM (SELECT x.* FROM clients.numbers x) dbvrcnt") == [(1000,)]
    finally:
        connection.rollback()
        connection.setAutoCommit(True)


@fault("EXPLAIN does not know PostgreSQL's formats TEXT and JSON")
@pytest.mark.parametrize("how", ["FORMAT TEXT", "FORMAT JSON", "ANALYZE, FORMAT TEXT"])
def test_explained(connection, how):
    assert jdbc.ask(connection, f"EXPLAIN ({how}) SELECT x.* FROM clients.numbers x")
