"""Save a model as MLflow serves it.

python mlflow_save.py MODEL FOLDER
"""

import pickle
import sys
from pathlib import Path

import lightgbm
import mlflow
import pandas as pd


class Linear(mlflow.pyfunc.PythonModel):
    """scikit-learn's DictVectorizer takes rows as dicts, MLflow gives a frame."""

    def load_context(self, context):
        self.model = pickle.loads(Path(context.artifacts["model"]).read_bytes())

    def predict(self, context, model_input: pd.DataFrame, params=None):
        return self.model.predict(model_input.to_dict("records"))


def main() -> None:
    model, folder = sys.argv[1:]
    if model.endswith(".txt"):
        mlflow.lightgbm.save_model(lightgbm.Booster(model_file=model), folder)
    else:
        mlflow.pyfunc.save_model(folder, python_model=Linear(), artifacts={"model": model})


if __name__ == "__main__":
    main()
