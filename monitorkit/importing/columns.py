"""Which column of a file is which of ours: `--map OURS=THEIRS`, or the same name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitorkit.errors import ConfigError, DataError
from monitorkit.prediction_log.rows import FIXED
from monitorkit.schema import FeatureSchema, spellings
from monitorkit.suggestions import suggestion

OPTION = "--map"
OPTIONAL = ("prediction_id", "prediction")
"""Of our own columns, those that are made where a file does not have them."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a file by our names for them.

    Attributes:
        path: of the file.
        theirs: all of its columns.
        given: what `--map` says: ours to theirs; None: the file does not have it.
    """

    path: str
    theirs: tuple[str, ...]
    given: Mapping[str, str | None]

    @classmethod
    def of(cls, path: str, theirs: tuple[str, ...], maps: Sequence[str]) -> Columns:
        """Read the `--map` options.

        Raises:
            ConfigError: one that cannot be read, names no column of the file, or comes twice.
            DataError: the file has two columns of a name that is needed.
        """
        given: dict[str, str | None] = {}
        problems = []
        for text in maps:
            ours, column, problem = _split(text, theirs)
            if problem is None and ours in given:
                problem = f"{ours!r} is mapped twice"
            if problem is not None:
                problems.append(problem)
            given[ours] = column or None
        if problems:
            raise ConfigError(OPTION, tuple(problems))
        return cls(path, theirs, given)

    def find(self, ours: str) -> str | None:
        """The file's column for one of ours; None when it has none.

        Raises:
            DataError: two of its columns have this name.
        """
        return self.find_all([ours])[ours]

    def find_all(self, names: Sequence[str]) -> dict[str, str | None]:
        """The file's columns for those of ours that belong together, by our names.

        Raises:
            DataError: two of its columns have one of these names.
        """
        return {ours: self._found(ours, known) for ours, known in spellings(names).items()}

    def lacking(self, names: Sequence[str]) -> list[str]:
        """Those of our names for which there is no column, and no word that there is none."""
        found = self.find_all(names)
        return [name for name in names if found[name] is None and not self._left_out(name)]

    def require(self, names: Sequence[str], *, why: str = "") -> None:
        """Refuse a file without a column for one of our names.

        Args:
            names: ours.
            why: they are needed.

        Raises:
            DataError: naming all of them, what is spelled nearly so, and what to write.
        """
        lacking = self.lacking(names)
        if lacking:
            what = "column" if len(lacking) == 1 else "columns"
            named = ", ".join(map(repr, lacking))
            raise DataError(self.path, f"it has no {what} {named}{why}", self._remedy(lacking))

    def unused(self, schemas: Sequence[FeatureSchema]) -> list[str]:
        """The file's columns that are none of ours, and no feature of these models."""
        together = [FIXED, *(schema.names for schema in schemas)]
        used = {found for names in together for found in self.find_all(names).values()}
        return [name for name in self.theirs if name not in used]

    def check_features(self, schemas: Sequence[FeatureSchema]) -> None:
        """Refuse a map of something that is no column of ours.

        Raises:
            ConfigError: naming it and the nearest of ours.
        """
        features = {name for schema in schemas for name in schema.names}
        ours = [*FIXED, *sorted(features)]
        problems = tuple(
            f"we have no column {name!r}{suggestion(name, ours)}"
            for name in self.given
            if name not in ours
        )
        if problems and schemas:
            raise ConfigError(OPTION, problems)

    def _found(self, ours: str, known: Sequence[str]) -> str | None:
        if ours in self.given:
            found = self.given[ours]
        else:
            known = (ours,) if ours in FIXED else known
            found = next((name for name in known if name in self.theirs), None)
        if found is not None and self.theirs.count(found) > 1:
            remedy = "Rename or remove one."
            raise DataError(self.path, "two columns have this name", remedy, column=found)
        return found

    def _left_out(self, name: str) -> bool:
        return name in self.given and name not in ("timestamp", "probability", "model_version")

    def _remedy(self, lacking: Sequence[str]) -> str:
        spare = [name for name in self.theirs if name not in self.given.values()]
        maps = []
        for name in lacking:
            near = difflib.get_close_matches(name.lower(), [s.lower() for s in spare], n=1)
            match = next((s for s in spare if near and s.lower() == near[0]), "THEIRS")
            quoted = f"{name}={match}"
            maps.append(f"{OPTION} {quoted!r}" if " " in quoted else f"{OPTION} {quoted}")
        instead = " (or --version V for all rows)" if "model_version" in lacking else ""
        which = "it is" if len(lacking) == 1 else "they are"
        return (
            f"Say which {which}: {' '.join(maps)}{instead}. The file has: {', '.join(self.theirs)}."
        )


def _split(text: str, theirs: Sequence[str]) -> tuple[str, str, str | None]:
    """One option as our name, theirs, and what is wrong; names may hold `=` themselves."""
    parts = text.split("=")
    if len(parts) < 2 or not parts[0].strip():  # noqa: PLR2004 - two sides
        return text, "", f"{text!r} is not OURS=THEIRS, such as timestamp=event_time"
    splits = [("=".join(parts[:n]), "=".join(parts[n:])) for n in range(1, len(parts))]
    for ours, column in splits:
        if column in theirs or not column:
            return ours, column, None
    ours, column = splits[0]
    if ours in theirs:
        problem = f"ours comes first: write {column}={ours}, not {text}"
    else:
        problem = f"{text}: the file has no column {column!r}{suggestion(column, theirs)}"
    return ours, column, problem
