"""``make chaos``: workers on a bad day, and whether anything was lost, made twice or wrong. Exit status 0: nothing."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.plan import of_form
from tests.chaos.run import Report, run
from tests.parts.missing import PartMissing

SITES = ("firestore", "sqlite")


def main() -> int:
    """Run what the command line asks for; the exit status."""
    arguments = _arguments()
    for name in [name for name in os.environ if name.startswith("EASELD_") and name != "EASELD_FIRESTORE_EMULATOR_JAR"]:
        del os.environ[name]
    os.environ["EASELD_DEVICE"] = "cpu"
    reports = []
    for site in arguments.site or SITES:
        for plan in of_form(arguments.form, site, arguments.seed):
            with tempfile.TemporaryDirectory(prefix="easeld-chaos-") as folder:
                try:
                    report = run(plan, arguments.keep / plan.name if arguments.keep else Path(folder))
                except PartMissing as missing:
                    say(f"NOT TESTED: {missing}")
                    if os.environ.get("CI"):
                        return 1
                    continue
            reports.append(report)
            say(told(report))
    say(summary(reports, arguments.seed))
    return 0 if reports and all(report.good for report in reports) else 1


def say(text: str) -> None:
    """Print it at once: whoever watches wants to see each run when it is over."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def told(report: Report) -> str:
    """A run in a few lines: what happened, what was found, and the evidence."""
    plan = report.plan
    exits = ", ".join(f"{status}: {count}" for status, count in sorted(report.exits.items()))
    lines = [
        f"{plan.name}: {report.jobs} jobs in {report.seconds:.0f} s, {len(report.rescues)} rescues",
        f"  95 % rescued within {report.rescue_p95:.1f} s; {report.swept} objects swept; workers' exits {exits}",
        f"  faults: {kinds(report.faults)}",
        *(f"  WRONG {job}: {problem}" for job, problem in report.findings.all),
        *(f"    {line}" for line in report.evidence),
    ]
    return "\n".join(lines)


def kinds(faults: Counter[str]) -> str:
    """Faults by kind."""
    return ", ".join(f"{kind} {count}" for kind, count in sorted(faults.items())) or "none"


def summary(reports: Sequence[Report], seed: int) -> str:
    """The last line."""
    faults = sum((report.faults for report in reports), Counter[str]())
    kills = sum(count for kind, count in faults.items() if kind.startswith("kill"))
    zombies = sum(count for kind, count in faults.items() if kind.startswith(("stop", "freeze")))
    cuts = sum(count for kind, count in faults.items() if kind.startswith(("cut", "hole")))
    found = [report.findings for report in reports]
    figures = {
        "jobs": sum(report.jobs for report in reports),
        "kills": kills,
        "zombies": zombies,
        "cuts": cuts,
        "lost": sum(len(each.lost) for each in found),
        "duplicated": sum(len(each.duplicated) for each in found),
        "wrong_files": sum(len(each.wrong_files) for each in found),
        "orphans": sum(len(each.orphans) for each in found),
        "other": sum(len(each.other) for each in found),
        "rescue_p95_s": f"{max((report.rescue_p95 for report in reports), default=0.0):.1f}",
        "faults": sum(faults.values()),
        "seed": seed,
    }
    by_kind = " ".join(f"{kind.replace(' ', '-')}={count}" for kind, count in sorted(faults.items()))
    return "chaos: " + " ".join(f"{name}={value}" for name, value in figures.items()) + f" [{by_kind}]"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--form", choices=("short", "full"), default="full")
    parser.add_argument("--site", choices=SITES, action="append", help="only this one")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31), help="decides which faults come when")
    parser.add_argument("--keep", type=Path, help="a folder that keeps the workers' logs")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
