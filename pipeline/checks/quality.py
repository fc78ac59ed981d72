"""Thresholds on a whole snapshot: what each check of `quality:` in params.yaml looks at, and its verdict.

Pure functions of counted facts, so that the page, `refresh` and the tests go by the same words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from statistics import median
from typing import NamedTuple

from pipeline.checks.facts import (
    Facts,
    appeared,
    deviations,
    missing_days,
    shrunk,
    vanished,
)
from pipeline.core.days import WHOLE
from pipeline.core.errors import ParamsError
from pipeline.core.params import Quality, Threshold
from pipeline.core.progress import count
from pipeline.core.verdict import FAILED, PASSED, SIGNS, UNKNOWN, WARNED
from pipeline.core.watermark import Change, midnight
from schemas.table import Table

# Checks that take for granted that rows come on each day.
OF_DAYS = ("rows", "last_day", "day_rows", "empty_days", "last_event")

# Days that are named before the rest is only counted.
NAMED = 3


class Result(NamedTuple):
    """What a check found. `value` and `limit` are what was compared; `where` is the worst place."""

    check: str
    table: str
    where: str
    value: float | None
    limit: float
    verdict: str
    words: str


def judge(facts: Facts, quality: Quality) -> list[Result]:
    """A result of each check that is not off, and of each of its own thresholds."""
    found = []
    for name in Quality._fields:
        threshold: Threshold = getattr(quality, name)
        own = tuple(which for which, _ in threshold.each)
        for which, one in ((None, threshold), *threshold.each):
            if one.level != "off":
                check = Check(name, which, own, one, facts)
                judged = facts.daily or name not in OF_DAYS
                found.append(LOOKS[name](check) if judged else check.unknown("the table may have days without rows"))
    return found


def check_names(tables: Sequence[Table], quality: Quality) -> None:
    """Raise ParamsError for a threshold of a column or type that there is not: it would never be past its limit."""
    types = {value for table in tables if table.type is not None for value in table.column(table.type).values}
    columns = {name for table in tables for name in table.names}
    for check, what, known in (
        ("nulls", "column", columns),
        ("day_rows", "type", types),
        ("largest_type", "type", types),
    ):
        for which, _ in getattr(quality, check).each:
            if known and which not in known:  # a type may be any text, where the contract lists none
                raise ParamsError(
                    f"params: quality.{check}.each.{which} is no {what} of the contract",
                    where=f"params.yaml, key quality.{check}.each",
                    expected=f"one of {', '.join(sorted(known))}",
                    next_step="edit params.yaml, then dvc repro",
                )


def overall(results: Sequence[Result]) -> str:
    """The verdict on the snapshot: the worst of all."""
    return next((one for one in (FAILED, WARNED) if any(result.verdict == one for result in results)), PASSED)


def sentence(results: Sequence[Result]) -> str:
    """Whether the snapshot can be used, in one sentence without a full stop."""
    of = {verdict: sum(result.verdict == verdict for result in results) for verdict in SIGNS}
    total = len(results) - of[UNKNOWN]
    if of[FAILED]:
        return f"Do not use this snapshot: {of[FAILED]} of {count(total, 'quality check')} failed"
    if of[WARNED]:
        past = "is past its limit" if of[WARNED] == 1 else "are past their limits"
        return f"This snapshot can be used with care: {of[WARNED]} of {count(total, 'quality check')} {past}"
    return f"This snapshot can be used: {count(total, 'quality check')} passed" if total else "No quality check is on"


def worst_first(results: Sequence[Result]) -> list[Result]:
    """Those that failed, then those that warned, each in the order of params.yaml."""
    return [result for verdict in (FAILED, WARNED) for result in results if result.verdict == verdict]


class Check(NamedTuple):
    """A threshold to be put to a table's facts."""

    name: str
    which: str | None  # a column or type, whose own threshold it is
    own: tuple[str, ...]  # those that have one
    threshold: Threshold
    facts: Facts

    @property
    def limit(self) -> float:
        return self.threshold.limit

    def result(self, value: float, bad: bool, words: str, where: str = "", expected: str = "") -> Result:
        """`expected` is said where it is not so, and the words don't say it."""
        verdict = PASSED if not bad else FAILED if self.threshold.level == "fail" else WARNED
        return self._made(where, value, verdict, words + (f", expected {expected}" if bad and expected else ""))

    def unknown(self, words: str) -> Result:
        return self._made("", None, UNKNOWN, words)

    def _made(self, where: str, value: float | None, verdict: str, words: str) -> Result:
        name = self.name if self.which is None else f"{self.name} {self.which}"
        return Result(name, self.facts.table, where, value, self.limit, verdict, words)


def rows(check: Check) -> Result:
    total = sum(check.facts.rows.values())
    if check.facts.asked and not total:
        return check.unknown("the users of extract.user_id have no rows, as may be")
    return check.result(
        total, total < check.limit, f"the snapshot has {count(total, 'row')}", expected=f"at least {check.limit:,g}"
    )


def last_day(check: Check) -> Result:
    day, *_ = sorted(check.facts.rows, reverse=True)
    same = [rows for one, rows in check.facts.rows.items() if one != day and one.weekday() == day.weekday()]
    if not any(same):
        return check.unknown(f"no {day:%A} before {day} has rows to compare with")
    found = check.facts.rows[day]
    words = f"the last day, {day}, has {count(found, 'row')}; the median of its weekday is {median(same):,.0f}"
    return check.result(found, found < check.limit, words, str(day))


def day_rows(check: Check) -> Result:
    rows = check.facts.rows
    if check.which is not None:
        rows = {day: check.facts.types.get(check.which, {}).get(day, 0) for day in rows}
    off = deviations(rows)
    if not off:
        return check.unknown("no weekday stands twice in the window with rows")
    worst = max(off, key=lambda day: (abs(off[day]), day))
    bad = [day for day in off if abs(off[day]) > check.limit]
    of = f" of {check.which}" if check.which else ""
    side = "above" if off[worst] > 0 else "below"
    words = f"{count(len(bad), 'day')} more than {check.limit:.0%} from the median of the weekday{of}; the furthest is "
    words += f"{worst} with {count(rows[worst], 'row')}, {abs(off[worst]):.0%} {side}"
    return check.result(abs(off[worst]), bool(bad), words, str(worst))


def empty_days(check: Check) -> Result:
    found = missing_days(check.facts.rows)
    return check.result(len(found), len(found) > check.limit, said("without rows", found), first(found))


def lost_rows(table: str) -> str:
    """How watermark.yaml says that it was accepted."""
    return f"{table} lost rows"


def shrunk_days(check: Check) -> Result:
    moved = check.facts.moved
    if moved is None:
        return check.unknown("there was no refresh before")
    days, share = shrunk(moved, check.facts.table)
    words = f"{said('with fewer rows than at the refresh before', days)}, {share:.0%} of those that both pinned"
    words = f"it lost {share:.0%} of its rows since the refresh before" if days == [WHOLE] else words
    accepted = share > check.limit and lost_rows(check.facts.table) in moved.accepted
    result = check.result(share, share > check.limit, words + ("; accepted" if accepted else ""), first(days))
    return result._replace(verdict=WARNED) if accepted else result


def emptied_days(check: Check) -> Result:
    if check.facts.moved is None:
        return check.unknown("there was no refresh before")
    changes: Mapping[date, Change] = check.facts.moved.tables.get(check.facts.table, {})
    days = sorted(day for day in changes if changes[day].before and not changes[day].rows)
    return check.result(len(days), len(days) > check.limit, said("that had rows and have none now", days), first(days))


def vanished_types(check: Check) -> Result:
    if not check.facts.types:
        return check.unknown("the table has no types")
    found = vanished(check.facts)
    words = "; ".join(f"{name} was there every day until {day}" for name, day in found.items())
    return check.result(
        len(found), len(found) > check.limit, words or "no type that was always there is gone", listed(found)
    )


def new_types(check: Check) -> Result:
    if not check.facts.types:
        return check.unknown("the table has no types")
    found = appeared(check.facts)
    words = "; ".join(f"{name} came first on {day}" for name, day in found.items())
    return check.result(len(found), len(found) > check.limit, words or "no type is new", listed(found))


def largest_type(check: Check) -> Result:
    total = sum(check.facts.rows.values())
    sums = {name: sum(days.values()) for name, days in check.facts.types.items()}
    if check.which is not None:
        sums = {check.which: sums.get(check.which, 0)}
    if not total or not sums:
        return check.unknown("no row has a type")
    name = max(sums, key=lambda one: (sums[one], one))
    share = sums[name] / total
    return check.result(
        share, share > check.limit, f"{name} is {share:.0%} of the rows", name, f"at most {check.limit:.0%}"
    )


def users(check: Check) -> Result:
    found, asked = check.facts.users, check.facts.asked
    if found is None:
        return check.unknown("no column names a user")
    if not found and not check.facts.daily:
        return check.unknown("there are no rows")
    least = min(check.limit, asked) if asked else check.limit
    words = f"{count(found, 'user')}" + (f" of the {asked:,} asked for" if asked else "")
    return check.result(found, found < least, words, expected=f"at least {least:,g}")._replace(limit=least)


def nulls(check: Check) -> Result:
    total = sum(check.facts.rows.values())
    columns = [name for name in check.facts.nulls if name == check.which or (not check.which and name not in check.own)]
    if not total or not columns:
        return check.unknown("there are no rows" if columns else "the table has no such column")
    shares = {name: check.facts.nulls[name] / total for name in columns}
    worst = max(shares, key=lambda name: (shares[name], name))
    bad = [name for name in columns if shares[name] > check.limit]
    words = f"{worst} is NULL in {shares[worst]:.0%} of the rows"
    words += f", and so are {count(len(bad) - 1, 'more column')}" if len(bad) > 1 else ""
    return check.result(shares[worst], bool(bad), words, worst, f"at most {check.limit:.0%}")


def last_event(check: Check) -> Result:
    if check.facts.last is None:
        return check.unknown("there is no event")
    hours = (midnight(check.facts.until) - check.facts.last).total_seconds() / 3600
    words = f"the last event came {hours:,.1f} hours before the end of the window, at {check.facts.last:%Y-%m-%d %H:%M}"
    return check.result(
        hours, hours > check.limit, words, f"{check.facts.last:%Y-%m-%d %H:%M}", f"at most {check.limit:,g}"
    )


def quarantined(check: Check) -> Result:
    total = sum(check.facts.rows.values()) + check.facts.quarantined
    if not total:
        return check.unknown("there are no rows")
    share = check.facts.quarantined / total
    words = f"{count(check.facts.quarantined, 'row')} in quarantine, {share:.2%}"
    return check.result(share, share > check.limit, words, expected=f"at most {check.limit:.2%}")


def phases_backwards(check: Check) -> Result:
    found = check.facts.backwards
    if found is None:
        return check.unknown("the table has no experiment phases")
    words = f"{count(found, 'event')} in an earlier phase than an event of the same user before"
    return check.result(found, found > check.limit, words)


def said(what: str, days: Sequence[date]) -> str:
    some = ", ".join(map(str, days[:NAMED])) + (f" and {len(days) - NAMED} more" if len(days) > NAMED else "")
    return f"{count(len(days), 'day')} {what}" + (f": {some}" if days else "")


def first(days: Sequence[date]) -> str:
    return str(days[0]) if days else ""


def listed(names: Mapping[str, date]) -> str:
    return ", ".join(names)


LOOKS: dict[str, Callable[[Check], Result]] = {
    look.__name__: look
    for look in (
        rows,
        last_day,
        day_rows,
        empty_days,
        shrunk_days,
        emptied_days,
        vanished_types,
        new_types,
        largest_type,
        users,
        nulls,
        last_event,
        quarantined,
        phases_backwards,
    )
}
