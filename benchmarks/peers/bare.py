"""What the framework alone can do: a route that only answers, and one that only validates."""

import os

from pydantic import BaseModel, ConfigDict, Field
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")
    utilisation: float = Field(ge=0, alias="RevolvingUtilizationOfUnsecuredLines")
    age: int = Field(ge=18, le=120)
    late_30: int = Field(ge=0, alias="NumberOfTime30-59DaysPastDueNotWorse")
    debt_ratio: float = Field(ge=0, alias="DebtRatio")
    income: float | None = Field(default=None, ge=0, alias="MonthlyIncome")
    lines: int = Field(ge=0, alias="NumberOfOpenCreditLinesAndLoans")
    late_90: int = Field(ge=0, alias="NumberOfTimes90DaysLate")
    estates: int = Field(ge=0, alias="NumberRealEstateLoansOrLines")
    late_60: int = Field(ge=0, alias="NumberOfTime60-89DaysPastDueNotWorse")
    dependents: int | None = Field(default=None, ge=0, alias="NumberOfDependents")


class Answer(BaseModel):
    prediction: int
    probability: float


async def nothing(request: Request) -> Response:
    await request.body()
    return Response(b'{"prediction":0,"probability":0.5}', media_type="application/json")


async def validated(request: Request) -> Response:
    Row.model_validate_json(await request.body())
    answer = Answer(prediction=0, probability=0.5)
    return Response(answer.model_dump_json(), media_type="application/json")


endpoint = {"nothing": nothing, "validated": validated}[os.environ["BARE"]]
app = Starlette(routes=[Route("/predict", endpoint, methods=["POST"])])
