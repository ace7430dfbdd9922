"""The monitor `rule` in TOML: refused at start-up with its position, judged in real cycles."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from monitoring_place import Place, draw

from monitorkit import plugin_manager, tables
from monitorkit.config import Config
from monitorkit.contracts import RunResult
from monitorkit.errors import ConfigError
from monitorkit.monitoring import summary
from monitorkit.monitoring.cycle import run_cycle
from monitorkit.monitoring.engine import LocalEngine


def entry(*rules: str) -> dict[str, Any]:
    return {"name": "house-rules", "use": "rule", "options": {"rule": list(rules)}}


def test_a_rule_that_cannot_be_read_is_refused_at_start_up() -> None:
    config = Config(
        monitors=[entry("share(age << 21) < 0.01")],
        monitoring={"verdict": {"monitor": "house-rules"}},
    )
    with pytest.raises(ConfigError) as caught:
        plugin_manager.checked(config)
    assert "`monitors.house-rules.options.rule`: rule 'share(age << 21) < 0.01', position 12" in (
        str(caught.value)
    )


def test_rules_are_judged_in_cycles_and_told_in_words(place: Callable[..., Place]) -> None:
    rules = ("mean(age) < 1.1 * reference", "missing(income) + missing(age) <= 0.01", "mean(x) < 1")
    wrong = {"name": "wrong", "use": "rule", "options": {"rule": rules[2]}}
    here = place(
        monitors=[entry(*rules[:2]), wrong],
        monitoring={"verdict": {"monitor": "house-rules"}, "min_rows": 100},
    )

    def cycle() -> RunResult:
        found = run_cycle(here.config, LocalEngine(here.config), here.results, trigger="once")
        assert isinstance(found, RunResult)
        return found

    here.append(draw(400, seed=2))
    quiet = cycle()
    assert [outcome.status for outcome in quiet.outcomes] == ["ok", "failed"]
    assert "there is no column 'x'" in str(quiet.outcomes[1].error)
    broken_income = draw(400, seed=3, shift=(30, 0, 0))
    broken_income[:, 1] = float("nan")
    here.append(broken_income)
    loud = cycle().outcomes[0]
    assert [finding.drift for finding in loud.findings] == [True, True]
    assert loud.findings[1].value == 0.5
    again = cycle()
    assert again.outcomes[0].findings[0].since == loud.findings[0].since
    printed = io.StringIO()
    summary.show(here.config, again, tables.console(file=printed, width=300))
    assert f"{rules[1]}: broken: 0.5, and it must be <= 0.01" in printed.getvalue()
    assert here.results.latest() == again
