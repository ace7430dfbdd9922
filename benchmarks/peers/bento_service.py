"""BentoML, as its scikit-learn example has it. It logs nothing."""

import os

import bentoml
import joblib
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field


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


@bentoml.service(workers=1)
class Credit:
    def __init__(self) -> None:
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api(input_spec=Row)
    def predict(self, **row: object) -> dict[str, float]:
        values = Row.model_validate(row).model_dump(by_alias=True)
        frame = pd.DataFrame([values]).astype(float)
        probability = float(self.model.predict_proba(frame)[0, 1])
        return {"prediction": int(probability > 0.5), "probability": probability}
