"""dbt with its adapter for PostgreSQL: a project of a seed, models of every kind and tests, built, and built again."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest

from conftest import BUCKET

PROJECT = Path(__file__).parent / "dbt"
OF_BUILD = {"success", "pass"}


def dbt(target, folder, *arguments):
    """(exit status, status by name of what ran, what was printed) of one command in a copy of the project."""
    env = os.environ | {"DBT_PROFILES_DIR": str(folder), "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    (folder / "target" / "run_results.json").unlink(missing_ok=True)
    done = subprocess.run([os.environ["SQL_DBT"], *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=110)
    results = folder / "target" / "run_results.json"
    ran = json.loads(results.read_text())["results"] if results.exists() else []
    return done.returncode, {r["unique_id"].split(".")[2]: r["status"] for r in ran}, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(target, numbers, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dbt") / "project"
    shutil.copytree(PROJECT, folder)
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA dbt LOCATION 's3://{BUCKET}/dbt/'")
    return folder


@pytest.fixture(scope="module")
def built(target, project):
    """A project that was built once."""
    status, ran, output = dbt(target, project, "build")
    assert status == 0 and len(ran) == 12 and set(ran.values()) <= OF_BUILD, output
    return project


def ask(target, sql):
    with psycopg.connect(target.dsn, autocommit=True) as connection:
        return connection.execute(sql).fetchall()


def test_built_once(target, built):
    assert ask(target, "SELECT code, population FROM dbt.large ORDER BY code") == [("de", 83_500_000), ("fr", 68_400_000)]
    assert ask(target, "SELECT code, name FROM dbt.small ORDER BY code") == [("is", "Ísland"), ("nl", "Nederland")]
    assert ask(target, "SELECT run, countries FROM dbt.appended") == [(1, 4)]


def fault(reason):
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.mark.parametrize("what", [
    pytest.param("countries", marks=fault("TRUNCATE is not supported: a seed cannot be loaded again")),
    pytest.param("large", marks=fault("after ALTER TABLE a RENAME TO b no table a can be created: its place is not empty")),
    pytest.param("small", marks=fault("pg_tables lists views, pg_views none")),
    pytest.param("seen", marks=fault("temporary tables are not supported")),
    pytest.param("appended", marks=fault("temporary tables are not supported"))])
def test_built_again(target, built, what):
    status, ran, output = dbt(target, built, "build", "--select", what)
    assert status == 0 and ran and set(ran.values()) <= OF_BUILD, output


@fault("the five above")
def test_all_built_twice_more(target, built):
    for _ in range(2):
        status, ran, output = dbt(target, built, "build")
        assert status == 0 and len(ran) == 12 and set(ran.values()) <= OF_BUILD, output
    assert (2, 4) in ask(target, "SELECT run, countries FROM dbt.appended")


@fault("the five above")
def test_built_from_nothing(target, built):
    status, ran, output = dbt(target, built, "build", "--full-refresh")
    assert status == 0 and set(ran.values()) <= OF_BUILD, output


@fault("pg_is_other_temp_schema is missing")
def test_documented(target, built):
    status, _, output = dbt(target, built, "docs", "generate")
    assert status == 0, output
    catalog = json.loads((built / "target" / "catalog.json").read_text())
    assert set(catalog["nodes"]) >= {"model.ashlar.large", "seed.ashlar.countries"}
