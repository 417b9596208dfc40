"""The queries of TPC-H, their tables and their generator.

Invariant: standard library only; a query is what queries.sql says, with the share of q11 that its scale asks for.
"""

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
TABLES = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"]


def queries(scale) -> list:
    """(name, SQL) of all 22."""
    text = (HERE / "queries.sql").read_text().replace(":fraction", f"{0.0001 / float(scale):.10f}")
    parts = re.split(r"^-- (q\d+)$", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2]))


def generate(bin_folder: Path, scale, folder: Path) -> None:
    """A Parquet file for each table."""
    subprocess.run([bin_folder / "tpchgen-cli", "parquet", "-s", str(scale), "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
