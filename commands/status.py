"""One line for a person or a monitor: the last good night, and whether this snapshot may be used.

Ends with 0 (good), 1 (with care), 2 (not good, or too old) or 3 (it can't be told), as Nagios and its like read it.
With --alert the people of ALERT_URLS are told, too: from a second timer, that is how one notices that there was no
night.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from pipeline.checks.current import check_current, check_database
from pipeline.checks.published import check_export
from pipeline.core.errors import PipelineError
from pipeline.core.params import load_params
from pipeline.core.paths import Paths
from pipeline.core.process import project, run
from pipeline.core.reports import read_report
from pipeline.core.verdict import FAILED, WARNED
from pipeline.tell import runs
from pipeline.tell.runs import RUNNING, Run
from pipeline.tell.told import send_alert

OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3
WORDS = {OK: "OK", WARNING: "WARNING", CRITICAL: "CRITICAL"}

# A night that ended later than now, but for what clocks differ by, is of a clock that was wrong.
CLOCKS = timedelta(minutes=5)


def status(paths: Paths, all_: Sequence[Run], max_age: timedelta | None, now: datetime) -> tuple[int, str]:
    nights = [one for one in all_ if one.what == "night" and one.result != RUNNING]
    past = [one for one in all_ if one.end is None or one.end <= now + CLOCKS]
    good = runs.last_good(past, "night")
    running = next((one for one in reversed(all_) if one.result == RUNNING), None)
    verdict, sentence = of_snapshot(paths)
    code, words = OK, [sentence]
    if running is not None:  # what it has written so far is judged when it has ended
        words = [f"make {running.what} runs since {running.start:%H:%M} UTC"]
    elif verdict is None or verdict == FAILED:
        code = CRITICAL
    elif verdict == WARNED:
        code = WARNING
    if good is None or good.end is None:
        words.append("no good night on this machine")
        code = CRITICAL if max_age is not None else code
    else:
        age = now - good.end
        words.append(f"last good night {good.end:%Y-%m-%d %H:%M} UTC, {hours(age)} ago")
        if max_age is not None and age > max_age:
            words.append(f"which is more than {hours(max_age)}")
            code = CRITICAL
    if len(past) < len(all_):
        words.append("runs of the future are remembered, so a clock was wrong, and they don't count")
        code = max(code, WARNING)
    if nights and not nights[-1].good and running is None:
        words.append(f"the last night {nights[-1].result}: {nights[-1].reason}".rstrip(": "))
        code = max(code, WARNING)
    return code, f"{WORDS[code]}: {'; '.join(words)}"


def of_snapshot(paths: Paths) -> tuple[str | None, str]:
    """The verdict on what is here, and its sentence."""
    try:
        check_current(paths, load_params(paths.params))
        check_database(paths)
        check_export(paths)
        report = read_report(paths.checks_report, "verdict", "sentence")
        return report["verdict"], report["sentence"][0]
    except PipelineError as error:
        return None, f"do not use what is here: {error.what}"


def hours(span: timedelta) -> str:
    return f"{span.total_seconds() / 3600:.0f} h"


def age(text: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([hd])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 26h or 2d")
    return timedelta(hours=int(match[1]) * (24 if match[2] == "d" else 1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m commands.status", description=__doc__)
    parser.add_argument("--max-age", type=age, metavar="26h", help="a last good night that is older is not good")
    parser.add_argument("--alert", action="store_true", help="tell the people of ALERT_URLS where it is not good")
    args = parser.parse_args()
    try:
        paths = project()
        code, line = status(paths, runs.read(paths.runs), args.max_age, datetime.now(UTC))
    except (PipelineError, OSError) as error:
        print(f"status: UNKNOWN: {error}")
        raise SystemExit(UNKNOWN) from None
    print(f"status: {line}")
    if args.alert and code == CRITICAL and (wrong := send_alert("no good night", line)):
        print(f"status: notice: an alert was not sent: {wrong}")
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    run("status", main)
