"""The script that people write: read the month, predict, write.

    python pandas_postgresql.py MODEL SOURCE RESULTS [METHOD] [CHUNKSIZE]

METHOD and CHUNKSIZE are those of `to_sql`; without them, its defaults. The driver is what the urls
say: for ``postgresql://`` SQLAlchemy 2.1 takes psycopg, for ``postgresql+psycopg2://`` psycopg2,
which 2.0 took by default.
"""

import sys

import lightgbm
import pandas as pd
import sqlalchemy

model_path, source_url, results_url, *options = sys.argv[1:]
chunksize = int(options[1]) if len(options) > 1 else None

source = sqlalchemy.create_engine(source_url)
results = sqlalchemy.create_engine(results_url)
query = """
    SELECT trip_id, pickup_zone, dropoff_zone, trip_distance, hour, passengers
    FROM trips WHERE pickup_at >= '2024-01-01' AND pickup_at < '2024-02-01'
"""
model = lightgbm.Booster(model_file=model_path)
trips = pd.read_sql(query, source)
trips["prediction"] = model.predict(trips[model.feature_name()])
trips[["trip_id", "prediction"]].to_sql(
    "predictions",
    results,
    if_exists="append",
    index=False,
    method="multi" if options[:1] == ["multi"] else None,
    chunksize=chunksize,
)
