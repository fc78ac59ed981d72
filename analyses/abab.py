"""ABAB reversal designs: what the intervention did in each case, and over all cases.

Reads data/export, params.yaml (the labels of the phases) and analyses/params.yaml; writes analyses/results/abab. A
point is the mean score of a session. Cases have numbers there, in the order of their userId, since results are in Git.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyses import results
from analyses.abab_page import drawn_case, drawn_effects, headline, page
from analyses.cases import NAMES, Found, check_order, look, over_all, read
from analyses.settings import Settings
from analyses.snapshot import RESULTS, Snapshot, analyse, too_little
from pipeline.core.progress import count

PACKAGES = ("numpy", "scipy", "matplotlib", "duckdb")


def abab(snapshot: Snapshot, settings: Settings) -> None:
    wanted = settings.abab
    labels = snapshot.params.validate.experiment_phases
    if len(labels) != len(NAMES):
        raise too_little(
            f"abab: validate.experiment_phases in params.yaml has {count(len(labels), 'label')}", "four, A B A B"
        )
    found = [look(case, wanted) for case in read(snapshot, list(labels), wanted)]
    overall = over_all(found, wanted)
    check_order([one.case for one in found])
    if not overall["whole_cases"]:
        raise too_little("abab: no case has a point in each of the four phases", "a window that holds the experiment")
    content = {
        "analysis": "abab",
        "improvement": wanted.improvement,
        "phases": dict(zip(NAMES, labels, strict=True)),
        # What `dvc metrics` shows, which leaves lists out.
        "mean_difference": overall["mean_difference"],
        "combined_p": overall["randomization"] and overall["randomization"]["p"],
        "level": wanted.level,
        "overall": [overall],
        "cases": [as_entry(one) for one in found],
        "provenance": snapshot.provenance(wanted, PACKAGES),
    }
    points = [(one.case.number, s.number, NAMES[s.phase], s.day, s.score) for one in found for s in one.case.sessions]
    files = {
        "abab.json": results.as_json(content),
        "points.csv": results.as_csv(("case", "session", "phase", "event_date", "score"), points),
        "effects.csv": results.as_csv(("case", "estimate", "low", "high", "n"), effects(found)),
        "abab.md": page(content, found, overall, wanted).encode(),
        **results.figures("effects", drawn_effects(found, overall, wanted)),
    }
    for one in found[: wanted.plots]:
        files |= results.figures(f"case-{one.case.number:03}", drawn_case(one))
    snapshot.inputs.check()
    results.write(RESULTS / "abab", files)
    print(f"abab: {headline(overall)}; {RESULTS / 'abab/abab.md'}")


def as_entry(one: Found) -> dict[str, Any]:
    plan_ = one.case.plan
    return {
        "case": one.case.number,
        "n": len(one.case.sessions),
        "standard": one.standard,
        "phases": one.phases,
        "plan": None
        if plan_ is None
        else {**plan_._asdict(), "start": str(plan_.start), "changes": [str(day) for day in plan_.changes]},
        "mean_difference": one.difference,
        "randomization": None
        if one.test is None
        else {
            "method": "randomization test, two-sided",
            **one.test._asdict(),
            "interval": None if one.effect is None else one.effect._asdict(),
        },
        "no_p_because": one.why_no_p or None,
        "overlap": [
            {
                "phases": name,
                "method": "NAP and tau: Newcombe (2006), method 5; corrected tau: Tarlow (2017)",
                "nap": found.nap._asdict(),
                "tau": found.tau._asdict(),
                "tau_se": found.tau_se,
                "tau_u": found.tau_u,
                "uncorrected_tau": one.corrected[name].uncorrected,
                "corrected_tau": one.corrected[name].tau._asdict(),
                "corrected": one.corrected[name].corrected,
                "baseline_tau": one.corrected[name].baseline_tau,
                "baseline_p": one.corrected[name].baseline_p,
                "corrected_tau_p": one.corrected[name].p,
                "n": one.corrected[name].n,
            }
            for name, found in one.overlaps.items()
        ],
    }


def effects(found: Sequence[Found]) -> list[tuple[Any, ...]]:
    return [
        (
            one.case.number,
            one.difference,
            None if one.effect is None else one.effect.low,
            None if one.effect is None else one.effect.high,
            len(one.case.sessions),
        )
        for one in found
        if one.difference is not None
    ]


if __name__ == "__main__":
    analyse("abab", abab)
