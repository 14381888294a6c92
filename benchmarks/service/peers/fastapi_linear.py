"""The service that people write: FastAPI, the model called in the handler.

python fastapi_linear.py PORT MODEL.pkl
"""

import pickle
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

model = pickle.loads(Path(sys.argv[2]).read_bytes())
app = FastAPI()


class Trip(BaseModel):
    PU_DO: str
    trip_distance: float


def score(trip: Trip) -> dict[str, float]:
    return {"prediction": float(model.predict([trip.model_dump()])[0])}


@app.post("/def")
def predict(trip: Trip) -> dict[str, float]:
    return score(trip)


@app.post("/async")
async def predict_async(trip: Trip) -> dict[str, float]:
    return score(trip)


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), access_log=False, log_level="warning")
