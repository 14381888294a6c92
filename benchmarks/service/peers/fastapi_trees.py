"""The service that people write: FastAPI, the model called in the handler.

python fastapi_trees.py PORT MODEL.txt
"""

import sys

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = lightgbm.Booster(model_file=sys.argv[2])
app = FastAPI()


class Trip(BaseModel):
    pickup_zone: int
    dropoff_zone: int
    trip_distance: float
    hour: int
    passengers: int


def score(trip: Trip) -> dict[str, float]:
    row = [trip.pickup_zone, trip.dropoff_zone, trip.trip_distance, trip.hour, trip.passengers]
    return {"prediction": float(model.predict(np.array([row]), num_threads=1)[0])}


@app.post("/def")
def predict(trip: Trip) -> dict[str, float]:
    return score(trip)


@app.post("/async")
async def predict_async(trip: Trip) -> dict[str, float]:
    return score(trip)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
