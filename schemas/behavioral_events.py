"""behavioral_events: what users did in the app. One row is one event, as the app wrote it.

`app/schema.prisma` is the source of names, types, nullability and enum values; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from schemas.rules import CUID, Settings, between, matches, not_future, not_older_than, one_of, unique, valid_json
from schemas.table import Column, Table

if TYPE_CHECKING:
    import pandas as pd

# The default of validate.experiment_phases in params.yaml: an ABAB design withdraws the intervention once.
EXPERIMENT_PHASES = ("baseline_1", "intervention_A_1", "baseline_2", "intervention_A_2")

MAX_AGE_YEARS = 5

BEHAVIORAL_EVENTS = Table(
    name="behavioral_events",
    description="One row is one event, as the app wrote it.",
    columns=(
        Column("id", "text", "The event, a cuid made by the app.", False, (matches(CUID), unique())),
        Column("userId", "text", "The user who did it, a cuid.", False, (matches(CUID),), pseudonym="userId"),
        Column(
            "eventType",
            "enum",
            "What happened.",
            False,
            (
                one_of(
                    "FLASHCARD_FLIP",
                    "FLASHCARD_CORRECT",
                    "FLASHCARD_INCORRECT",
                    "MISSION_STARTED",
                    "MISSION_COMPLETED",
                    "CARD_REVIEWED",
                    "VALIDATION_COMPLETED",
                    "SESSION_STARTED",
                    "SESSION_ENDED",
                    "LECTURE_UPLOADED",
                    "SEARCH_PERFORMED",
                    "GRAPH_VIEWED",
                    "RECOMMENDATION_VIEWED",
                    "RECOMMENDATION_CLICKED",
                    "RECOMMENDATION_DISMISSED",
                    "RECOMMENDATION_RATED",
                ),
            ),
            enum="EventType",
        ),
        Column("eventData", "json", "Details of the event; their shape depends on eventType.", False, (valid_json(),)),
        Column(
            "timestamp",
            "timestamp",
            "When it happened, in UTC, to the millisecond.",
            False,
            (not_future(), not_older_than(MAX_AGE_YEARS)),
        ),
        Column(
            "completionQuality",
            "enum",
            "How carefully a task was completed.",
            rules=(one_of("RUSHED", "NORMAL", "THOROUGH"),),
            enum="CompletionQuality",
        ),
        Column("contentType", "text", "The kind of content that was on screen."),
        Column("dayOfWeek", "int", "Day of the week, 0 to 6, as the app numbers it.", rules=(between(0, 6),)),
        Column("difficultyLevel", "text", "The content's difficulty, as the app names it."),
        Column(
            "engagementLevel",
            "enum",
            "Engagement as estimated by the app.",
            rules=(one_of("LOW", "MEDIUM", "HIGH"),),
            enum="EngagementLevel",
        ),
        Column(
            "sessionPerformanceScore",
            "int",
            "Score of the session so far, in percent.",
            rules=(between(0, 100),),
            unit="percent",
        ),
        Column("timeOfDay", "int", "Hour of the day, as the app saw it.", rules=(between(0, 23),)),
        Column(
            "experimentPhase",
            "text",
            "Phase of the user's ABAB experiment; NULL outside one.",
            rules=(one_of(*EXPERIMENT_PHASES, param="experiment_phases"),),
        ),
        Column("randomizationSeed", "int", "Seed that assigned the user; NULL outside an experiment."),
        Column(
            "contextMetadataId",
            "text",
            "The row of context_metadata that applies, if any.",
            pseudonym="contextMetadataId",
        ),
    ),
    # Measured on 1,000,000 events of 90 days, 2 threads, median ms of the example queries through the view, by
    # (timestamp, id) / by (userId, timestamp, id): events a day 26 / 17, a user's timeline 44 / 36, phases 16 / 20,
    # JSON filter 50 / 46, tags 79 / 50, daily series 51 / 70, ABAB table 41 / 27. All are far below the bound, so the
    # cheaper order decides: PostgreSQL has it from its index (COPY and Parquet 1.1 times the floor, against 1.3 for
    # the other), also for a day of millions, and nobody sorts what does not fit into memory.
    order=("timestamp", "id"),
    key="id",
    time="timestamp",
    user="userId",
    type="eventType",
    phase="experimentPhase",
    score="sessionPerformanceScore",
    references=(("contextMetadataId", "context_metadata"),),
    counted=("eventType", "experimentPhase"),
    indexes=(("idx_user_timestamp", ("userId", "timestamp")), ("idx_experiment_phase", ("experimentPhase",))),
)


def validate_behavioral_events(
    df: pd.DataFrame,
    strict: bool = True,
    raise_on_error: bool = True,
    *,
    until: datetime | None = None,
    phases: Sequence[str] = EXPERIMENT_PHASES,
) -> pd.DataFrame:
    """Check a pandas frame against the contract and return it as it was given.

    One row is one event. Any pandas dtypes that convert exactly will do; `eventData` holds dicts, lists or JSON
    text. Columns that may be NULL may also be absent.

    strict: columns that the contract does not know are an error; False lets them pass.
    raise_on_error: raise `pandera.errors.SchemaErrors`, which names every failing column and check; False
        issues it as a `pandera.errors.SchemaWarning` instead.
    until: the end of the window, UTC; the present by default. A timestamp after it is `timestamp_not_future`.
    phases: the labels that `experimentPhase` may hold.
    """
    from schemas.frames import validate_frame

    end = until or datetime.now(UTC)
    if end.tzinfo is not None:
        end = end.astimezone(UTC).replace(tzinfo=None)
    settings = Settings(end, {"experiment_phases": tuple(phases)})
    validate_frame(BEHAVIORAL_EVENTS, df, settings, strict, raise_on_error)
    return df
