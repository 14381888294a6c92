"""A plain loop over ADBC, without pandas: read all, predict, ingest.

python adbc_postgresql.py MODEL SOURCE RESULTS
"""

import sys

import adbc_driver_postgresql.dbapi as postgresql  # type: ignore[import-untyped]
import lightgbm
import numpy as np
import pyarrow as pa

model_path, source_url, results_url = sys.argv[1:]

query = """
    SELECT trip_id, pickup_zone, dropoff_zone, trip_distance, hour, passengers
    FROM trips WHERE pickup_at >= '2024-01-01' AND pickup_at < '2024-02-01'
"""
model = lightgbm.Booster(model_file=model_path)
with postgresql.connect(source_url) as source, source.cursor() as cursor:
    cursor.execute(query)
    trips = cursor.fetch_arrow_table()
matrix = np.column_stack([trips[name].to_numpy() for name in model.feature_name()])
predictions = pa.table({"trip_id": trips["trip_id"], "prediction": model.predict(matrix)})
with postgresql.connect(results_url) as results, results.cursor() as cursor:
    cursor.adbc_ingest("predictions", predictions, mode="create_append")
    results.commit()
