"""The floor: the same trees on the same rows, in memory already; prints seconds and CPU seconds.

python predict.py MODEL ROWS.npy THREADS
"""

import sys
import time

import lightgbm
import numpy as np

model_path, rows_path, threads = sys.argv[1:]
model = lightgbm.Booster(model_file=model_path)
rows = np.load(rows_path)
model.predict(rows[:10_000], num_threads=int(threads))
wall, cpu = time.perf_counter(), time.process_time()
model.predict(rows, num_threads=int(threads))
print(time.perf_counter() - wall, time.process_time() - cpu)
