"""Make trips.parquet, the data of the taxi example, from a package on the Python registry.

The source distribution of great_expectations 1.2.0 carries 10,000 New York yellow-taxi trips of
each month as CSV. This script fetches it with pip and writes the 18 months from January 2019 to
June 2020 into one file. Nothing is cleaned: odd rows are part of what the example shows.

    python make_trips.py
    python make_trips.py --sdist great_expectations-1.2.0.tar.gz   # a file you have already

The times of the source are New York wall-clock times without a zone. Here they become instants in
UTC. The hour that the clocks repeat (3 November 2019, 01:00 to 02:00) is read as its first pass.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

PACKAGE = "great_expectations==1.2.0"
SHA256 = "77c0813a711254c7dbcbe1d70e89761a58027e7010c570920f680e78c5d6c9d0"
MEMBER = re.compile(
    r"[^/]+/tests/test_sets/taxi_yellow_tripdata_samples/yellow_tripdata_sample_(\d{4}-\d\d)\.csv"
)
MONTHS = ("2019-01", "2020-06")
OUTPUT = Path(__file__).with_name("trips.parquet")

# Whole numbers appear as "1" in some months and "1.0" in others, so they are read as floats.
CSV_TYPES: dict[str, pa.DataType] = {
    "vendor_id": pa.float64(),
    "pickup_datetime": pa.timestamp("us"),
    "dropoff_datetime": pa.timestamp("us"),
    "passenger_count": pa.float64(),
    "trip_distance": pa.float64(),
    "rate_code_id": pa.float64(),
    "store_and_fwd_flag": pa.string(),
    "pickup_location_id": pa.int64(),
    "dropoff_location_id": pa.int64(),
    "payment_type": pa.float64(),
    "fare_amount": pa.float64(),
    "extra": pa.float64(),
    "mta_tax": pa.float64(),
    "tip_amount": pa.float64(),
    "tolls_amount": pa.float64(),
    "improvement_surcharge": pa.float64(),
    "total_amount": pa.float64(),
    "congestion_surcharge": pa.float64(),
}
RENAMED = {
    "pickup_datetime": "pickup_at",
    "dropoff_datetime": "dropoff_at",
    "pickup_location_id": "pickup_zone",
    "dropoff_location_id": "dropoff_zone",
}
UTC = pa.timestamp("us", tz="UTC")
TYPES: dict[str, pa.DataType] = {
    "pickup_at": UTC,
    "dropoff_at": UTC,
    "vendor_id": pa.int64(),
    "passenger_count": pa.int64(),
    "rate_code_id": pa.int64(),
    "payment_type": pa.int64(),
}


def fetch(directory: Path) -> Path:
    """Download the source distribution with pip; return its path.

    pip asks even a source distribution that is only downloaded for its metadata, and this one's
    setup.py needs pkg_resources, which newer setuptools lack: hence an older one, in a throwaway
    environment, with build isolation off so that pip uses it.
    """
    environment = directory / "env"
    venv.create(environment, with_pip=True, symlinks=sys.platform != "win32")
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    pip = [str(environment / scripts / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "--quiet", "setuptools<81", "wheel"], check=True)
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest"]
    download = [*pip, "download", "--quiet", *options, str(directory), PACKAGE]
    subprocess.run(download, check=True)
    return next(directory.glob("*.tar.gz"))


def read(sdist: Path) -> pa.Table:
    """Read the months out of the source distribution, in their order."""
    digest = hashlib.sha256(sdist.read_bytes()).hexdigest()
    if digest != SHA256:
        raise SystemExit(f"{sdist} has the SHA-256 {digest}, not {SHA256}: not the expected file")
    options = pyarrow.csv.ConvertOptions(column_types=CSV_TYPES, strings_can_be_null=True)
    months: dict[str, pa.Table] = {}
    with tarfile.open(sdist) as archive:
        for member in archive:
            found = MEMBER.fullmatch(member.name)
            if found is None or not MONTHS[0] <= found[1] <= MONTHS[1]:
                continue
            file = archive.extractfile(member)
            if file is not None:
                months[found[1]] = pyarrow.csv.read_csv(file, convert_options=options)
    return pa.concat_tables(months[month] for month in sorted(months))


def shape(table: pa.Table) -> pa.Table:
    """Name and type the columns, turn the times into UTC, and number the trips by pickup."""
    table = table.select(list(CSV_TYPES))
    for at in ("pickup_datetime", "dropoff_datetime"):
        # A time that the clocks skip would be an error of the source: none occurs, so raise.
        local = pc.assume_timezone(
            table[at], "America/New_York", ambiguous="earliest", nonexistent="raise"
        )
        table = table.set_column(table.column_names.index(at), at, local)
    table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
    table = table.cast(
        pa.schema([(field.name, TYPES.get(field.name, field.type)) for field in table.schema])
    )
    # The place in the source breaks ties, so that a trip keeps its number on every run.
    place = pa.array(range(table.num_rows), pa.int64())
    order = pc.sort_indices(
        table.append_column("place", place),
        sort_keys=[("pickup_at", "ascending"), ("place", "ascending")],
    )
    numbers = pa.array(range(1, table.num_rows + 1), pa.int64())
    first = ["pickup_at", "dropoff_at", "pickup_zone", "dropoff_zone"]
    rest = [name for name in table.column_names if name not in first]
    return table.take(order).select(first + rest).add_column(0, "trip_id", numbers)


def write(table: pa.Table, path: Path) -> None:
    """Write the table small: times as differences, the rest as dictionaries, then Zstandard."""
    steps = ["trip_id", "pickup_at", "dropoff_at"]
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name not in steps],
        column_encoding=dict.fromkeys(steps, "DELTA_BINARY_PACKED"),
    )


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sdist", type=Path, help="the source distribution, if you have it")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        table = shape(read(arguments.sdist or fetch(Path(directory))))
    write(table, arguments.output)
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {table.num_rows:,} trips, {size:,} bytes")


if __name__ == "__main__":
    main()
