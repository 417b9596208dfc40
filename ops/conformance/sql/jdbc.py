"""PostgreSQL's JDBC driver in a JVM within this process.

Invariant: the driver is the file whose path SQL_JDBC_DRIVER has; nothing else is on its class path. Knows no test.
"""

import os
from pathlib import Path

import jpype
import jpype.imports
import pytest

URL = "jdbc:postgresql://127.0.0.1:{}/ashlar"


def start():
    """The JVM, started at the first call; the calling test is skipped on a machine without Java."""
    if jpype.isJVMStarted():
        return
    try:
        jpype.getDefaultJVMPath()
    except (jpype.JVMNotFoundException, jpype.JVMNotSupportedException):
        pytest.skip("no Java is installed (apt: default-jre-headless)")
    jpype.startJVM("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xrs",
                   classpath=[Path(os.environ["SQL_JDBC_DRIVER"])], convertStrings=True)


def connect(target, **properties):
    """A java.sql.Connection; properties are the driver's own."""
    start()
    from java.sql import DriverManager
    from java.util import Properties
    chosen = Properties()
    for name, value in ({"user": target.access, "password": target.secret} | properties).items():
        chosen.setProperty(name, str(value))
    return DriverManager.getConnection(URL.format(target.pg_port), chosen)


def rows(result) -> list:
    """All rows as tuples, and the result is closed."""
    with result:
        width = result.getMetaData().getColumnCount()
        found = []
        while result.next():
            found.append(tuple(result.getObject(n) for n in range(1, width + 1)))
        return found


def named(result) -> list:
    """All rows as dictionaries by column label."""
    with result:
        described = result.getMetaData()
        labels = [described.getColumnLabel(n) for n in range(1, described.getColumnCount() + 1)]
        found = []
        while result.next():
            found.append({label: result.getObject(n) for n, label in enumerate(labels, 1)})
        return found


def ask(connection, sql, *parameters) -> list:
    """One prepared statement, as JDBC's tools send them."""
    with connection.prepareStatement(sql) as statement:
        for n, value in enumerate(parameters, 1):
            statement.setObject(n, value)
        return rows(statement.executeQuery())
