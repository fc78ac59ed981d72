"""The fixed sample that fills the embedded PostgreSQL: the same rows on every machine and every Python.

What it holds: about 60,000 events of 60 users over the 120 UTC days before 2025-10-28, all 16 event types, in
sessions that now and then run past midnight. Weekdays are busier than weekends, users differ in activity, four join
late. Bodies differ by event type and hold what breaks careless code: German, Japanese, emoji, quotes, backslashes,
newlines, JSON null. Columns are NULL where an app would leave them so.

The known effects. The expected sessionPerformanceScore of an event is its user's own baseline, plus what follows and
nothing else: no trend, no carry-over, no difference between event types.
- ABAB: every fifth user (12) is in an experiment over the last EXPERIMENT_DAYS days. The three days on which the phase
  changes are drawn from the user's randomizationSeed, all that leave each phase MIN_PHASE_DAYS being as likely as each
  other; SESSION_STARTED holds them. An intervention adds EFFECT.
- ITS: of the others, half have ROLLOUT "first": from ITS_START on they get ITS_LEVEL, and ITS_SLOPE more each day after
  it. Those of ROLLOUT "second" get nothing: they are the control.
- Every day has a shock that all users share, AR(1) with phi 0.3.

Events hold the number of their user's session. Two sessions of a user may be open at once.

Chance comes from random.Random(seed).random() alone, the one method whose sequence Python promises to keep ("Notes on
Reproducibility" in its documentation), and is made a whole number at once. Not even sum() of floats would do: Python
3.12 changed its rounding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Row = tuple[object, ...]

UNTIL = date(2025, 10, 28)  # exclusive
DAYS = 120
USERS = 60
SEED = 20251028
LATE = (7, 22, 37, 52)  # who joins late; nobody of the experiment

PHASES = ("baseline_1", "intervention_A_1", "baseline_2", "intervention_A_2")
MIN_PHASE_DAYS = 14
EXPERIMENT_DAYS = 84
EXPERIMENT_START = DAYS - EXPERIMENT_DAYS  # as a day of the sample, counted from 0

# In percent of score. The noise is the sum of NOISE_TERMS whole numbers from -NOISE to NOISE: its mean is 0, its
# standard deviation sqrt(4 * (15 * 15 - 1) / 12) = 8.6. A day's shock is at most 4 * 0.8 / (1 - 0.3) = 4.6. The
# extremes are 44 - 28 - 5 = 11 and 56 + 8 + 28 + 5 = 97, so that nothing is ever clipped to 0..100 and clipping can't
# shrink an effect.
EFFECT = 8
BASELINES = range(44, 57)
NOISE = 7
NOISE_TERMS = 4

ITS_START = date(2025, 9, 28)
# In thousandths of a percent, so that whole numbers will do; a score is rounded at random, which keeps its mean.
POINT = 1000
ITS_LEVEL = 4 * POINT
ITS_SLOPE = POINT // 10
SHOCK = 800  # each of four terms is at most that, so a day's innovation has a standard deviation of 0.92
BURN_IN = 30  # days of shocks before the first

SECOND = 1000  # times are in milliseconds since the start of the sample
HOUR = 3600 * SECOND
DAY = 24 * HOUR


class Kind(NamedTuple):
    action: str
    content: str | None = None
    seconds: int = 0  # the longest that it lasts; 0 for what has no length
    scored: bool = False


KINDS = {
    "FLASHCARD_FLIP": Kind("flip", "flashcard", 20),
    "FLASHCARD_CORRECT": Kind("answer", "flashcard", 30, scored=True),
    "FLASHCARD_INCORRECT": Kind("answer", "flashcard", 45, scored=True),
    "MISSION_STARTED": Kind("start", "mission"),
    "MISSION_COMPLETED": Kind("complete", "mission", 900, scored=True),
    "CARD_REVIEWED": Kind("review", "flashcard", 60, scored=True),
    "VALIDATION_COMPLETED": Kind("validate", "validation", 300, scored=True),
    "SESSION_STARTED": Kind("start"),
    "SESSION_ENDED": Kind("end", scored=True),
    "LECTURE_UPLOADED": Kind("upload", "lecture", 40),
    "SEARCH_PERFORMED": Kind("search", None, 2),
    "GRAPH_VIEWED": Kind("view", "graph", 120),
    "RECOMMENDATION_VIEWED": Kind("view", "recommendation", 15),
    "RECOMMENDATION_CLICKED": Kind("click", "recommendation"),
    "RECOMMENDATION_DISMISSED": Kind("dismiss", "recommendation"),
    "RECOMMENDATION_RATED": Kind("rate", "recommendation"),
}
COMPLETIONS = {"MISSION_COMPLETED", "CARD_REVIEWED", "VALIDATION_COMPLETED"}
RUSHED_BELOW, THOROUGH_FROM = 8, 45  # percent of the longest
GRADED_CONTENT = {"flashcard", "mission", "validation"}

# What a user does next, and its weight. A mission is sometimes started and never completed.
WEIGHTS = {
    ("FLASHCARD_FLIP", "FLASHCARD_CORRECT"): 7,
    ("FLASHCARD_FLIP", "FLASHCARD_INCORRECT"): 3,
    ("CARD_REVIEWED",): 4,
    ("MISSION_STARTED", "MISSION_COMPLETED"): 2,
    ("MISSION_STARTED",): 1,
    ("VALIDATION_COMPLETED",): 2,
    ("LECTURE_UPLOADED",): 1,
    ("SEARCH_PERFORMED",): 2,
    ("GRAPH_VIEWED",): 1,
    ("RECOMMENDATION_VIEWED",): 2,
    ("RECOMMENDATION_VIEWED", "RECOMMENDATION_DISMISSED"): 1,
    ("RECOMMENDATION_VIEWED", "RECOMMENDATION_CLICKED"): 1,
    ("RECOMMENDATION_VIEWED", "RECOMMENDATION_CLICKED", "RECOMMENDATION_RATED"): 1,
}
STEPS = [step for step, weight in WEIGHTS.items() for _ in range(weight)]

TITLES = {
    "de": ("Größen & Einheiten", "Erster Hauptsatz der Wärmelehre", "Prüfung »Anatomie«", "Übung 3\tSäuren und Basen"),
    "en": (
        "The citric acid cycle",
        'What does "ceteris paribus" mean?',
        "🧠 Memory palace",
        r"LaTeX: \frac{a}{b} \neq 0",
    ),
    "ja": ("光合成の仕組み", "漢字テスト 第3回", "確率と統計 📊", "「源氏物語」を読む"),
}
TEXTS = {
    "de": 'Weil die Energie erhalten bleibt.\nSiehe auch: Kapitel 2, Abschnitt "Wärme".',
    "en": "First the enzyme binds,\r\nthen it's released; see notes\\week3.txt",
    "ja": "光のエネルギーを使って、\n水と二酸化炭素から糖を作る。",
}
TAGS = ("biology", "chemistry", "exam", "week 3", "Prüfung", "復習", "🔥", "hard", "statistics", 'the "basics"')
WAKING_HOURS = (7, 8, 8, 9, 10, 12, 13, 15, 16, 17, 18, 18, 19, 19, 20, 20, 21, 21, 22, 23)
HOURS_TO_UTC = {"de": -1, "en": 5, "ja": -9}
WEEKDAY_PERCENT = (75, 125, 120, 115, 110, 85, 65)  # from Sunday, as JavaScript's getUTCDay() counts

_DATES = [UNTIL - timedelta(days=DAYS - day) for day in range(DAYS)]
_ISO_DATES = [day.isoformat() for day in _DATES]
_WEEKDAYS = [day.isoweekday() % 7 for day in _DATES]
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class User(NamedTuple):
    id: str
    baseline: int
    seed: int | None  # None: not in the experiment
    percent: int  # how likely each of the three sessions is that a day has room for
    changes: tuple[int, int, int] | None  # the days of the experiment, from 0, on which its phase changes
    rollout: str | None  # "first" has the ITS effect; None in the experiment
    joined: int  # the first day
    language: str
    wearable: bool


class Visit(NamedTuple):
    """A session to come."""

    number: int  # of the user's sessions, from 1
    start: int
    context: str | None  # the id of the day's context_metadata


def _hex(seed: int, kind: str, number: int) -> str:
    return sha256(f"{seed}/{kind}/{number}".encode()).hexdigest()


def _cuid(seed: int, kind: str, number: int) -> str:
    return "c" + _hex(seed, kind, number)[:24]


def _chance(seed: int, stream: str) -> Random:
    return Random(int(_hex(seed, stream, 0), 16))


def _below(rng: Random, limit: int) -> int:
    return int(rng.random() * limit)


def _pick(rng: Random, values: Sequence[T]) -> T:
    return values[_below(rng, len(values))]


def _timestamp(at: int) -> str:
    day, rest = divmod(at, DAY)
    seconds, milliseconds = divmod(rest, SECOND)
    return f"{_ISO_DATES[day]} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"


def admissible(days: int, shortest: int) -> list[tuple[int, int, int]]:
    """All ways to change the phase three times in `days` days, with at least `shortest` days in each phase."""
    return [
        (first, second, third)
        for first in range(shortest, days - 3 * shortest + 1)
        for second in range(first + shortest, days - 2 * shortest + 1)
        for third in range(second + shortest, days - shortest + 1)
    ]


def _users(seed: int) -> list[User]:
    rng = _chance(seed, "users")
    ways = admissible(EXPERIMENT_DAYS, MIN_PHASE_DAYS)
    users = []
    for number in range(USERS):
        in_experiment = number % 5 == 0
        own = int(_hex(seed, "randomization", number)[:7], 16) if in_experiment else None
        users.append(
            User(
                id=_cuid(seed, "user", number),
                baseline=_pick(rng, BASELINES),
                seed=own,
                # Who is in the experiment is active enough for five sessions a phase.
                percent=(25 if in_experiment else 8) + _below(rng, 15 if in_experiment else 30),
                changes=None if own is None else _pick(Random(own), ways),
                rollout=None if in_experiment else "first" if number % 5 in (1, 3) else "second",
                joined=20 + number if number in LATE else 0,
                language=_pick(rng, ("de", "en", "en", "ja")),
                wearable=number % 3 == 0,
            )
        )
    return users


def _shocks(seed: int) -> list[int]:
    """What each day adds to all scores, in thousandths."""
    rng = _chance(seed, "shocks")
    shocks = [0]
    for _ in range(BURN_IN + DAYS):
        shocks.append(shocks[-1] * 3 // 10 + sum(_below(rng, 2 * SHOCK + 1) - SHOCK for _ in range(4)))
    return shocks[-DAYS:]


def _check_in(seed: int, number: int, day: int) -> str | None:
    """Return the id of the user's context_metadata that day, if any. Arithmetic, so that both tables agree on it."""
    return _cuid(seed, "context", number * DAYS + day) if (day * 7 + number * 3) % 5 in (0, 1) else None


def context_metadata_rows(seed: int = SEED) -> Iterator[Row]:
    """Yield the rows of context_metadata in the column order of the migration, oldest day first."""
    rng = _chance(seed, "context_metadata")
    users = _users(seed)
    for day in range(DAYS):
        for number, user in enumerate(users):
            check_in = _check_in(seed, number, day)
            if check_in is None or day < user.joined:
                continue
            yield (
                check_in,
                user.id,
                _timestamp(day * DAY + _below(rng, HOUR)),
                _pick(rng, (None, "VERY_LOW", "LOW", "MEDIUM", "MEDIUM", "HIGH", "VERY_HIGH")),
                1 + _below(rng, 10),
                _pick(rng, (None, "HOME", "HOME", "LIBRARY", "CAFE", "CAMPUS", "COMMUTE", "OTHER")),
                1 + _below(rng, 10),
                _pick(rng, (None, None, None, TEXTS[user.language])),
                (20 + _below(rng, 17)) / 4,  # quarters are exact as floats
                1 + _below(rng, 10),
                30 + _below(rng, 70) if user.wearable else None,
                48 + _below(rng, 25) if user.wearable else None,
                _below(rng, 85) / 4 if user.wearable else None,
                _below(rng, 101) if user.wearable else None,
                "wearable" if user.wearable else "manual",
            )


def event_rows(seed: int = SEED) -> Iterator[Row]:
    """Yield the rows of behavioral_events in the column order of the migration, by day, user and session.

    Another seed gives other rows with the same effects.
    """
    rng = _chance(seed, "behavioral_events")
    users, shocks = _users(seed), _shocks(seed)
    sessions = [0] * USERS
    count = 0
    for day in range(DAYS):
        for number, user in enumerate(users):
            starts = []
            for _ in range(3 if day >= user.joined else 0):
                if _below(rng, 100 * 100) < user.percent * WEEKDAY_PERCENT[_WEEKDAYS[day]]:
                    hour = (_pick(rng, WAKING_HOURS) + HOURS_TO_UTC[user.language]) % 24
                    starts.append(hour * HOUR + _below(rng, HOUR))
            for start in sorted(starts):
                sessions[number] += 1
                context = _check_in(seed, number, day) if start >= HOUR else None  # made in the first hour
                for row in _session(rng, user, Visit(sessions[number], day * DAY + start, context), shocks):
                    yield (_cuid(seed, "event", count), *row)
                    count += 1


def _session(rng: Random, user: User, visit: Visit, shocks: Sequence[int]) -> Iterator[Row]:
    """Yield the events of one session, without their ids."""
    engagement = _pick(rng, (None, "LOW", "MEDIUM", "MEDIUM", "HIGH", "HIGH"))
    old_app = _below(rng, 33) == 0  # it did not send the clock's columns
    at = visit.start
    steps = [_pick(rng, STEPS) for _ in range(4 + _below(rng, 8))]
    for step in [("SESSION_STARTED",), *steps, ("SESSION_ENDED",)]:
        title = _pick(rng, TITLES[user.language])
        tags = list(dict.fromkeys(_pick(rng, TAGS) for _ in range(_below(rng, 4))))
        level = _pick(rng, (None, "beginner", "intermediate", "intermediate", "advanced"))
        for event_type in step:
            kind = KINDS[event_type]
            # A draw below a draw, because most things are over soon.
            duration = _below(rng, _below(rng, kind.seconds * SECOND))
            at += duration + 500 + _below(rng, 9 * SECOND)
            if at >= DAYS * DAY:
                return  # what lies after the end has not happened yet
            day, time = divmod(at, DAY)
            body = _body(rng, event_type, user, title, tags)
            body["action"] = kind.action
            body["session"] = visit.number
            if kind.seconds:
                body["duration_ms"] = duration
            if event_type == "SESSION_ENDED":
                body["duration_ms"] = at - visit.start
            phase = _phase(user, day)
            yield (
                user.id,
                event_type,
                _JSON.encode(body),
                _timestamp(at),
                _quality(duration, kind) if event_type in COMPLETIONS else None,
                kind.content,
                None if old_app else _WEEKDAYS[day],
                level if kind.content in GRADED_CONTENT else None,
                engagement,
                _score(rng, user, phase, day, shocks[day]) if kind.scored else None,
                None if old_app else time // HOUR,
                phase,
                user.seed if phase else None,
                visit.context,
            )


def _phase(user: User, day: int) -> str | None:
    if user.changes is None or day < EXPERIMENT_START:
        return None
    return PHASES[sum(day - EXPERIMENT_START >= change for change in user.changes)]


def _score(rng: Random, user: User, phase: str | None, day: int, shock: int) -> int:
    expected = user.baseline + (EFFECT if phase in ("intervention_A_1", "intervention_A_2") else 0)
    noise = sum(_below(rng, 2 * NOISE + 1) - NOISE for _ in range(NOISE_TERMS))
    since = (_DATES[day] - ITS_START).days
    rolled_out = ITS_LEVEL + since * ITS_SLOPE if user.rollout == "first" and since >= 0 else 0
    return ((expected + noise) * POINT + shock + rolled_out + _below(rng, POINT)) // POINT


def _quality(duration: int, kind: Kind) -> str:
    percent = duration * 100 // (kind.seconds * SECOND)
    return "RUSHED" if percent < RUSHED_BELOW else "NORMAL" if percent < THOROUGH_FROM else "THOROUGH"


def _body(rng: Random, event_type: str, user: User, title: str, tags: list[str]) -> dict[str, Any]:
    """Return what the app knows about the event beyond its action and duration."""
    text = TEXTS[user.language]
    item = {"kind": "lecture" if len(title) % 2 else "flashcards", "title": title}
    body: dict[str, Any] = {}  # SESSION_ENDED has nothing else
    match event_type:
        case "FLASHCARD_FLIP":
            body = {"card": {"deck": title, "side": _pick(rng, ("front", "back"))}, "tags": tags}
        case "FLASHCARD_CORRECT" | "FLASHCARD_INCORRECT":
            correct = event_type == "FLASHCARD_CORRECT"
            answer = {"expected": text, "given": text if correct else _pick(rng, (None, "?", text[:9]))}
            body = {"answer": answer, "attempt": 1 + _below(rng, 2), "card": {"deck": title}, "correct": correct}
            body["tags"] = tags
        case "CARD_REVIEWED":
            schedule = {"ease": (5 + _below(rng, 6)) / 4, "interval_days": 1 + _below(rng, 30)}
            body = {"card": {"deck": title}, "rating": 1 + _below(rng, 4), "schedule": schedule, "tags": tags}
        case "MISSION_STARTED" | "MISSION_COMPLETED":
            body = {"mission": {"goal": {"cards": 15 + len(title) % 5 * 5}, "title": title}}
        case "VALIDATION_COMPLETED":
            rubric = {"accuracy": _below(rng, 5) / 4, "clarity": _below(rng, 5) / 4}
            body = {"prompt": title, "response": text, "rubric": rubric}
        case "SESSION_STARTED":
            device = {"os": _pick(rng, ("android", "ios", "web")), "version": f"17.{_below(rng, 10)}"}
            body = {"device": device, "language": user.language}
            if user.changes is not None:
                changes = [_ISO_DATES[EXPERIMENT_START + change] for change in user.changes]
                body["experiment"] = {
                    "changes": changes,
                    "days": EXPERIMENT_DAYS,
                    "min_days": MIN_PHASE_DAYS,
                    "start": _ISO_DATES[EXPERIMENT_START],
                }
            else:
                body["rollout"] = user.rollout
        case "LECTURE_UPLOADED":
            file = {"bytes": 10_000 + _below(rng, 9_000_000), "name": f"C:\\lectures\\{title}.pdf"}
            body = {"file": file, "pages": 1 + _below(rng, 80), "tags": tags}
        case "SEARCH_PERFORMED":
            body = {"filters": {"tags": tags}, "query": f'"{title}"', "results": _below(rng, 50)}
        case "GRAPH_VIEWED":
            body = {"graph": {"edges": _below(rng, 900), "nodes": _below(rng, 300)}, "zoom": (2 + _below(rng, 7)) / 4}
        case "RECOMMENDATION_DISMISSED":
            body = {"item": item, "reason": _pick(rng, (None, "known", "too hard 😅")), "tags": tags}
        case "RECOMMENDATION_RATED":
            body = {"item": item, "stars": 1 + _below(rng, 5), "tags": tags}
        case "RECOMMENDATION_VIEWED" | "RECOMMENDATION_CLICKED":
            body = {"item": item, "tags": tags}
    return body


def _copy_field(value: object) -> str:
    if value is None:
        return r"\N"
    # str.translate() would say it in one step and take half of the whole time.
    return str(value).replace("\\", r"\\").replace("\t", r"\t").replace("\n", r"\n").replace("\r", r"\r")


def copy_text(rows: Iterable[Row]) -> Iterator[str]:
    """Yield the rows as lines of PostgreSQL's text COPY format."""
    for row in rows:
        yield "\t".join(map(_copy_field, row)) + "\n"
