"""The service of the tutorials: FastAPI, a DataFrame a request, `to_csv(mode="a")`."""

import os
from datetime import UTC, datetime

import joblib
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

app = FastAPI()
model = joblib.load(os.environ["MODEL"])
LOG = os.environ["LOG"]
final = model.steps[-1][1]
if "n_estimators" in final.get_params():
    final.set_params(n_jobs=-1)  # as tutorials train a forest; the other peers get one thread


class Row(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    RevolvingUtilizationOfUnsecuredLines: float
    age: int
    late_30: int = Field(alias="NumberOfTime30-59DaysPastDueNotWorse")
    DebtRatio: float
    MonthlyIncome: float | None = None
    NumberOfOpenCreditLinesAndLoans: int
    NumberOfTimes90DaysLate: int
    NumberRealEstateLoansOrLines: int
    late_60: int = Field(alias="NumberOfTime60-89DaysPastDueNotWorse")
    NumberOfDependents: int | None = None


@app.post("/predict")
def predict(row: Row) -> dict[str, float]:
    frame = pd.DataFrame([row.model_dump(by_alias=True)]).astype(float)
    probability = float(model.predict_proba(frame)[0, 1])
    frame["probability"] = probability
    frame["timestamp"] = datetime.now(UTC).isoformat()
    frame.to_csv(LOG, mode="a", header=not os.path.exists(LOG), index=False)
    return {"prediction": int(probability > 0.5), "probability": probability}
