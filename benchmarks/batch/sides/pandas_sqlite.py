"""The script that people write, from one SQLite file to another.

python pandas_sqlite.py MODEL SOURCE RESULTS
"""

import sqlite3
import sys

import lightgbm
import pandas as pd

model_path, source_path, results_path = sys.argv[1:]

query = """
    SELECT trip_id, pickup_zone, dropoff_zone, trip_distance, hour, passengers
    FROM trips WHERE pickup_at >= '2024-01-01' AND pickup_at < '2024-02-01'
"""
model = lightgbm.Booster(model_file=model_path)
with sqlite3.connect(source_path) as source:
    trips = pd.read_sql(query, source)
trips["prediction"] = model.predict(trips[model.feature_name()])
with sqlite3.connect(results_path) as results:
    trips[["trip_id", "prediction"]].to_sql("predictions", results, if_exists="append", index=False)
