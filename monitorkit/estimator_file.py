"""Reading the file of a fitted estimator: skops, or a pickle where that is allowed."""

from __future__ import annotations

import pickle
from typing import Any

from monitorkit import estimators, logs
from monitorkit.errors import ModelRefused
from monitorkit.estimators import Unfit
from monitorkit.trust import FileForm, Trust

log = logs.get(__name__)


def read(title: str, data: bytes, form: FileForm, trust: Trust, logged_with: object) -> Any:
    """The estimator in a file, for one thread.

    Args:
        title: the model, for errors.
        data: the file.
        form: how it is saved.
        trust: what it may do when it is read.
        logged_with: the version of scikit-learn that made it; None when nobody knows.

    Raises:
        ModelRefused: it is a pickle or holds types, and neither is trusted; or it is damaged.
    """
    import sklearn  # noqa: PLC0415 - 1 s, when a model loads

    logged_with = str(logged_with or sklearn.__version__)
    if logged_with.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        log.warning(
            "model_from_another_scikit_learn",
            model=title,
            logged_with=logged_with,
            installed=sklearn.__version__,
        )
    if form == "pickle" and not trust.pickles:
        raise ModelRefused(
            title,
            "it is a pickle, which runs code when it is read",
            "Promote a version that is saved with skops, or set [registry] allow_pickle = true.",
        )
    try:
        estimator, untrusted = _load(data, form, trust)
        estimators.check_trees(estimator)
    except Unfit as unfit:
        raise ModelRefused(title, unfit.reason, unfit.remedy) from unfit
    except Exception as error:  # skops and pickles let through whatever their readers raise
        raise ModelRefused(
            title,
            f"its file cannot be loaded: {type(error).__name__}: {error}",
            "Install the libraries that it was logged with, or log it again.",
        ) from error
    if untrusted:
        raise ModelRefused(
            title,
            f"its file holds types that are not trusted: {', '.join(untrusted)}",
            "If you trust who made it, add them to [registry] skops_trusted_types.",
        )
    estimators.use_one_thread(estimator)
    return estimator


def _load(data: bytes, form: FileForm, trust: Trust) -> tuple[Any, list[str]]:
    """The estimator; None, and what is not trusted, when there is such a thing."""
    import skops.io  # noqa: PLC0415 - with scikit-learn

    if form == "pickle":
        return pickle.loads(data), []  # noqa: S301 - the configuration allows it
    untrusted = sorted(set(skops.io.get_untrusted_types(data=data)) - set(trust.types))
    return (None if untrusted else skops.io.loads(data, trusted=list(trust.types))), untrusted
