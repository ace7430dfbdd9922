"""Synthetic applicants that resemble "Give Me Some Credit", the same ones for the same seed.

Each row has hidden factors; each column is a fixed function of them and of chance, so that columns
hang together as the real ones do, and the label can be learnt from them. Only the bit stream of
PCG64 is drawn (numpy keeps that one for ever), and values are rounded far above the last bit, so
that platforms and versions agree.
"""

# ruff: noqa: PLR2004 - the numbers here are what the applicants are like

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TARGET = "SeriousDlqin2yrs"
COLUMNS = (
    "RevolvingUtilizationOfUnsecuredLines",
    "age",
    "NumberOfTime30-59DaysPastDueNotWorse",
    "DebtRatio",
    "MonthlyIncome",
    "NumberOfOpenCreditLinesAndLoans",
    "NumberOfTimes90DaysLate",
    "NumberRealEstateLoansOrLines",
    "NumberOfTime60-89DaysPastDueNotWorse",
    "NumberOfDependents",
)

INCOME_MISSING = 0.198
DEPENDENTS_MISSING = 0.026  # only where income is missing too
CODE_98, CODE_96 = 0.0023, 0.0003
DECIMALS = 6  # the real file has nine; fewer keep values apart from a platform's last bit

_LATE = (
    "NumberOfTime30-59DaysPastDueNotWorse",
    "NumberOfTimes90DaysLate",
    "NumberOfTime60-89DaysPastDueNotWorse",
)

Floats = NDArray[np.float64]

# Loadings of a column's score on the hidden factors: distress, wealth, youth, housing.
_LOADINGS: Mapping[str, tuple[float, float, float, float]] = {
    "RevolvingUtilizationOfUnsecuredLines": (0.57, -0.08, 0.28, 0.06),
    "age": (0.00, 0.15, -0.90, 0.00),
    "NumberOfTime30-59DaysPastDueNotWorse": (0.70, 0.10, 0.12, 0.00),
    "DebtRatio": (0.05, -0.05, 0.00, 0.75),
    "MonthlyIncome": (-0.05, 0.65, -0.10, -0.15),
    "NumberOfOpenCreditLinesAndLoans": (-0.03, 0.60, -0.15, 0.25),
    "NumberOfTimes90DaysLate": (0.78, -0.25, 0.14, 0.00),
    "NumberRealEstateLoansOrLines": (-0.05, 0.65, 0.00, 0.55),
    "NumberOfTime60-89DaysPastDueNotWorse": (0.76, -0.05, 0.14, 0.00),
    "NumberOfDependents": (0.08, 0.32, 0.34, 0.05),
}

# Quantiles of the columns with many values: (share of rows, value), linear in between.
_QUANTILES: Mapping[str, tuple[tuple[float, float], ...]] = {
    "RevolvingUtilizationOfUnsecuredLines": (
        (0, 0), (0.074, 0), (0.1, 0.0028), (0.15, 0.0098), (0.2, 0.019), (0.25, 0.0296),
        (0.3, 0.043), (0.4, 0.0804), (0.5, 0.1497), (0.6, 0.2664), (0.7, 0.4392), (0.75, 0.55),
        (0.8, 0.6935), (0.85, 0.8504), (0.9, 0.9826), (0.91, 1), (0.978, 1), (0.985, 1.035),
        (0.99, 1.111), (0.995, 1.37), (0.9978, 5), (0.999, 1900), (1, 13930),
    ),
    "age": (
        (0, 21), (0.01, 24.5), (0.05, 29.5), (0.1, 33.5), (0.25, 41.5), (0.5, 52.5), (0.75, 63.5),
        (0.9, 72.5), (0.95, 78.5), (0.99, 87.5), (1, 98),
    ),
    "DebtRatio": (
        (0, 0), (0.03, 0), (0.05, 0.0044), (0.1, 0.02), (0.25, 0.139), (0.5, 0.294), (0.75, 0.48),
        (0.9, 0.74), (0.95, 0.95), (0.985, 1.5), (0.998, 4), (1, 20),
    ),
    "MonthlyIncome": (
        (0, 0), (0.0115, 0), (0.0118, 1), (0.0135, 2), (0.02, 480), (0.0625, 1550), (0.1, 2080),
        (0.25, 3400), (0.3125, 4000), (0.5, 5435), (0.6875, 7400), (0.75, 8300), (0.9, 11600),
        (0.9375, 13660), (0.9875, 23600), (0.9995, 90000), (1, 835040),
    ),
}  # fmt: skip

# Debt in dollars, which stands in DebtRatio where there is no income to divide by.
_DEBT_DOLLARS = (
    (0, 0), (0.06, 0), (0.1, 7), (0.25, 108), (0.5, 1092), (0.75, 2282), (0.9, 3537),
    (0.95, 4722), (0.99, 7750), (0.9995, 30000), (1, 307001),
)  # fmt: skip

# Shares of the values 0, 1, 2, ... of the columns with few values.
_SHARES: Mapping[str, tuple[float, ...]] = {
    "NumberOfTime30-59DaysPastDueNotWorse": (
        0.843, 0.105, 0.0322, 0.0104, 0.0055, 0.0024, 0.0008, 0.0004, 0.0001, 0.0001, 0.0001,
    ),
    "NumberOfOpenCreditLinesAndLoans": (
        0.0122, 0.0317, 0.0415, 0.0608, 0.0781, 0.0845, 0.0918, 0.0899, 0.0841, 0.0772, 0.0646,
        0.0544, 0.0467, 0.0382, 0.03, 0.0251, 0.0188, 0.0157, 0.0112, 0.01, 0.0077, 0.0048, 0.0039,
        0.0041, 0.0035, 0.0032, 0.0016, 0.0012, 0.0009, 0.0008, 0.0007, 0.0006, 0.0005, 0.0004,
        0.0004, 0.0003, 0.0003, 0.0002, 0.0002, 0.0002, 0.0001, 0.0001, 0.0001, 0.0001, 0.0001,
        0.0001,
    ),
    "NumberOfTimes90DaysLate": (
        0.9485, 0.0332, 0.009, 0.0044, 0.0023, 0.0011, 0.0005, 0.0004, 0.0002, 0.0001, 0.0001,
        0.0001, 0.0001,
    ),
    "NumberRealEstateLoansOrLines": (
        0.3801, 0.35, 0.2058, 0.0434, 0.0125, 0.0032, 0.002, 0.0012, 0.0007, 0.0004, 0.0003, 0.0002,
        0.0002, 0.0001, 0.0001, 0.0001, 0.0001, 0.00002, 0.00002, 0.00002, 0.00001, 0.00001,
        0.00001, 0.00001, 0.00001, 0.00001,
    ),
    "NumberOfTime60-89DaysPastDueNotWorse": (
        0.9528, 0.0358, 0.0073, 0.0025, 0.0012, 0.0003, 0.0002, 0.0001,
    ),
    "NumberOfDependents": (
        0.6, 0.173, 0.1335, 0.0676, 0.0203, 0.0033, 0.0009, 0.0004, 0.0003, 0.0002, 0.0002, 0.0001,
        0.0001, 0.0001,
    ),
}  # fmt: skip


def applicants(rows: int, seed: int) -> tuple[dict[str, Floats], NDArray[np.int64]]:
    """Make synthetic applicants.

    Args:
        rows: how many.
        seed: of everything random in them.

    Returns:
        The ten columns, (rows,) each, NaN where missing; and the labels, (rows,) 0 or 1.
    """
    chance = _Chance(rows, seed)
    scores = _scores(chance)
    columns = {name: _value(name, score) for name, score in scores.items()}
    gap = chance.uniform()
    income = _like_round_numbers(columns["MonthlyIncome"], chance.uniform())
    income[gap < INCOME_MISSING] = np.nan
    columns["MonthlyIncome"] = income
    columns["NumberOfDependents"][gap < DEPENDENTS_MISSING] = np.nan
    columns["DebtRatio"] = _debt(columns["DebtRatio"], scores["DebtRatio"], income)
    _late_codes(columns, chance.uniform())
    labels = chance.uniform() < _default_probability(columns)
    return columns, labels.astype(np.int64)


def csv_text(columns: Mapping[str, Floats], labels: NDArray[np.int64]) -> str:
    """The applicants in the layout of Kaggle's `cs-training.csv`.

    Args:
        columns: (rows,) each, NaN where missing.
        labels: (rows,) 0 or 1.
    """
    cells = [[str(number) for number in range(1, len(labels) + 1)], [str(y) for y in labels]]
    cells += [[_cell(value) for value in values.tolist()] for values in columns.values()]
    lines = [",".join(("", TARGET, *columns)), *map(",".join, zip(*cells, strict=True))]
    return "\n".join(lines) + "\n"


class _Chance:
    """Uniform and normal numbers made from PCG64's raw bits."""

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._bits = np.random.PCG64(seed)

    def uniform(self) -> Floats:
        """(rows,) in (0, 1): 52 random bits and a half, so that neither end is reached."""
        raw = np.asarray(self._bits.random_raw(self._rows), dtype=np.uint64)
        return ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def normal(self) -> Floats:
        """(rows,) standard normal."""
        from scipy.special import ndtri  # noqa: PLC0415 - comes with scikit-learn

        return np.asarray(ndtri(self.uniform()), dtype=np.float64)


def _scores(chance: _Chance) -> dict[str, Floats]:
    """For each column a uniform score in (0, 1), correlated through the hidden factors."""
    from scipy.special import ndtr  # noqa: PLC0415 - comes with scikit-learn

    factors = [chance.normal() for _ in range(4)]
    scores = {}
    for name, loadings in _LOADINGS.items():
        own = float(np.sqrt(1 - sum(loading * loading for loading in loadings)))
        total = own * chance.normal()
        for loading, factor in zip(loadings, factors, strict=True):
            total = total + loading * factor
        scores[name] = np.asarray(ndtr(total), dtype=np.float64)
    return scores


def _value(name: str, score: Floats) -> Floats:
    if name in _SHARES:
        edges = np.cumsum(_SHARES[name])
        return np.searchsorted(edges / edges[-1], score, side="right").astype(np.float64)
    values = _quantile(_QUANTILES[name], score)
    if name == "age":
        return np.floor(values)
    return values.round(DECIMALS)


def _quantile(knots: tuple[tuple[float, float], ...], score: Floats) -> Floats:
    shares, values = zip(*knots, strict=True)
    return np.asarray(np.interp(score, shares, values), dtype=np.float64)


def _like_round_numbers(income: Floats, draw: Floats) -> Floats:
    """Whole numbers, every fourth one a multiple of 500, as people state their incomes."""
    rounded = (draw < 0.25) & (income > 1000) & (income < 20_000)
    return np.where(rounded, np.floor(income / 500 + 0.5) * 500, np.floor(income))


def _debt(ratio: Floats, score: Floats, income: Floats) -> Floats:
    """The ratio needs an income to divide by; without one the column holds dollars."""
    dollars = np.floor(_quantile(_DEBT_DOLLARS, score))
    per_income = np.where(income <= 1, dollars / (income + 1), ratio)
    return np.where(np.isnan(income), dollars, per_income)


def _late_codes(columns: dict[str, Floats], draw: Floats) -> None:
    """96 and 98 are codes, not counts; they stand together in all three late columns."""
    for name in _LATE:
        columns[name][draw < CODE_98 + CODE_96] = 98
        columns[name][draw < CODE_96] = 96


def _default_probability(columns: Mapping[str, Floats]) -> Floats:
    """(rows,) how likely each applicant defaults: what a model can learn."""
    used = np.minimum(columns["RevolvingUtilizationOfUnsecuredLines"], 1.2)
    age = columns["age"]
    income = columns["MonthlyIncome"]
    ratio = columns["DebtRatio"]
    estates = columns["NumberRealEstateLoansOrLines"]
    coded = columns[_LATE[0]] >= 96
    odds = -4.34 + 2.05 * used - 0.026 * (age - 50)
    for name, first, more in zip(_LATE, (0.8, 1.55, 0.85), (0.35, 0.4, 0.3), strict=True):
        late = np.where(coded, 0, columns[name])
        odds = odds + first * (late > 0) + more * np.minimum(np.maximum(late - 1, 0), 4)
    odds = odds + 4.0 * coded
    odds = odds + 0.07 * np.nan_to_num(columns["NumberOfDependents"])
    odds = odds + 0.45 * ((ratio > 0.5) & (ratio < 6)) + 0.25 * np.maximum(estates - 2, 0)
    odds = odds - 0.04 * np.minimum(np.nan_to_num(income, nan=6400.0) / 1000, 15)
    return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)


def _cell(value: float) -> str:
    if value != value:  # noqa: PLR0124 - NaN is not itself
        return "NA"
    return str(int(value)) if value.is_integer() else repr(value)
