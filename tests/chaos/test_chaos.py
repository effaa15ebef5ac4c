"""The test of the test: each deliberate defect makes a run fail, and the same run without it is good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.plan import COMPLETING, DELETING, PUTTING, Plan
from tests.chaos.run import run

CALM = Plan(
    site="sqlite", jobs=10, faults=0, seed=1, workers=3, freezers=2, acts=0.0, kills={}, freezes={}, step_seconds=0.1,
)  # fmt: skip

# Who freezes with a completion decided wakes when another has put its own files there, and frozen as well.
LATE_COMPLETION = replace(CALM, freezes={COMPLETING: 0.8}, freezers=3, wakes={COMPLETING: "followed"}, jobs=2)
# Who freezes with an upload in its hand wakes when another has ended the job.
LATE_UPLOAD = replace(CALM, freezes={PUTTING: 0.8}, wakes={PUTTING: "ended"})
# Who has found its own file to be an orphan deletes it when another has put the right one there.
LATE_DELETE = replace(CALM, freezes={COMPLETING: 0.8, DELETING: 1.0}, wakes={COMPLETING: "taken", DELETING: "ended"})

FINDINGS = ("lost", "duplicated", "wrong_files", "orphans")
DEFECTS: Mapping[str, tuple[Plan, set[str]]] = {
    "twice": (CALM, {"duplicated"}),
    "token": (LATE_COMPLETION, {"wrong_files"}),
    "fencing": (LATE_UPLOAD, {"wrong_files"}),
    "delete": (LATE_DELETE, {"wrong_files"}),
}


@pytest.mark.usefixtures("uncounted")
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_deliberate_defect_makes_the_run_fail(defect: str, tmp_path: Path) -> None:
    """No fence before uploads, no look at tokens, deletes by name alone, completing twice: each is noticed.

    Whether a zombie wakes in the very gap that a defect opens is the machine's doing. Deletes by name, which need two
    freezes of one zombie, showed in three of four runs on a quiet machine: one run of six has to.
    """
    plan, expected = DEFECTS[defect]
    noticed: list[set[str]] = []
    for seed in range(1, 7):
        report = run(replace(plan, defect=defect, seed=seed), tmp_path / str(seed))
        noticed.append({name for name in FINDINGS if getattr(report.findings, name)})
        if expected <= noticed[-1]:
            assert not report.good
            assert report.evidence, "the documents of the jobs that went wrong are shown"
            return
    pytest.fail(f"six runs showed no more than {noticed}")


@pytest.mark.usefixtures("uncounted")
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("plan", [LATE_COMPLETION, LATE_UPLOAD, LATE_DELETE], ids=["completion", "upload", "delete"])
def test_the_same_run_without_a_defect_is_good(plan: Plan, tmp_path: Path) -> None:
    """It is the defect that the run notices, not the zombies."""
    report = run(plan, tmp_path)
    assert not report.findings.all, report.evidence
    assert report.faults, "somebody froze"
