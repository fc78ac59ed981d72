"""The contract: one declaration a column, and everything that other modules derive from it.

The grain: one row is one event, as the app wrote it. `schema.prisma` beside this file is the source of
names, types, nullability and enum values; a test compares the two. Nothing heavy is imported here, because
every stage reads the contract and only one needs Pandera (which adds a second to a start): the Pandera schema
made from these declarations is in `behavioral_events.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "behavioral_events"

Kind = Literal["text", "enum", "json", "timestamp", "int"]


class TypeNames(NamedTuple):
    """What one kind of column is called in each system."""

    prisma: str
    postgres: str
    raw: str
    export: str
    duckdb: str


# The only table of types in the project.
TYPES: dict[Kind, TypeNames] = {
    "text": TypeNames("String", "text", "string", "string", "VARCHAR"),
    "enum": TypeNames("enum", "enum", "string", "string", "VARCHAR"),
    "json": TypeNames("Json", "jsonb", "string", "json", "JSON"),
    "timestamp": TypeNames("DateTime", "timestamp(3) without time zone", "timestamp[ms]", "timestamp[ms]", "TIMESTAMP"),
    "int": TypeNames("Int", "integer", "int32", "int32", "INTEGER"),
}


class Rule(NamedTuple):
    """One check on one column. `name` is what reports print; a NULL passes every rule."""

    name: Literal[
        "str_matches", "isin", "in_range", "unique", "json_valid", "timestamp_not_future", "timestamp_not_old"
    ]
    args: tuple[Any, ...] = ()

    def describe(self) -> str:
        """The rule in words, for the README's column table."""
        match self.name:
            case "str_matches":
                return f"matches `{self.args[0]}`"
            case "isin":
                return "one of " + ", ".join(f"`{value}`" for value in self.args)
            case "in_range":
                return f"{self.args[0]} to {self.args[1]}"
            case "unique":
                return "unique over the window"
            case "json_valid":
                return "valid JSON"
            case "timestamp_not_future":
                return "not after `until`"
            case "timestamp_not_old":
                return f"at most {self.args[0]} years before `until`"


class Column(NamedTuple):
    """One column of the table: what it is called, what it holds, what must be true of it."""

    name: str
    kind: Kind
    description: str
    nullable: bool = True
    rules: tuple[Rule, ...] = ()
    values: str | None = None  # the Prisma enum that `isin` spells out

    @property
    def types(self) -> TypeNames:
        return TYPES[self.kind]


def matches(pattern: str) -> Rule:
    return Rule("str_matches", (pattern,))


def one_of(*values: str) -> Rule:
    return Rule("isin", values)


def between(low: int, high: int) -> Rule:
    return Rule("in_range", (low, high))


CUID = r"^c[a-z0-9]{24}$"

EVENT_TYPES = (
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
)
COMPLETION_QUALITIES = ("RUSHED", "NORMAL", "THOROUGH")
ENGAGEMENT_LEVELS = ("LOW", "MEDIUM", "HIGH")

# The default of params.yaml's validate.experiment_phases: an ABAB design withdraws the intervention once.
EXPERIMENT_PHASES = ("baseline_1", "intervention_A_1", "baseline_2", "intervention_A_2")

MAX_AGE_YEARS = 5

COLUMNS: tuple[Column, ...] = (
    Column("id", "text", "The event, a cuid made by the app.", False, (matches(CUID), Rule("unique"))),
    Column("userId", "text", "The user who did it, a cuid.", False, (matches(CUID),)),
    Column("eventType", "enum", "What happened.", False, (one_of(*EVENT_TYPES),), values="EventType"),
    Column(
        "eventData", "json", "Details of the event; their shape depends on eventType.", False, (Rule("json_valid"),)
    ),
    Column(
        "timestamp",
        "timestamp",
        "When it happened, in UTC, to the millisecond.",
        False,
        (Rule("timestamp_not_future"), Rule("timestamp_not_old", (MAX_AGE_YEARS,))),
    ),
    Column(
        "completionQuality",
        "enum",
        "How carefully a task was completed.",
        rules=(one_of(*COMPLETION_QUALITIES),),
        values="CompletionQuality",
    ),
    Column("contentType", "text", "The kind of content that was on screen."),
    Column("dayOfWeek", "int", "Day of the week, 0 to 6, as the app numbers it.", rules=(between(0, 6),)),
    Column("difficultyLevel", "text", "The content's difficulty, as the app names it."),
    Column(
        "engagementLevel",
        "enum",
        "Engagement as estimated by the app.",
        rules=(one_of(*ENGAGEMENT_LEVELS),),
        values="EngagementLevel",
    ),
    Column("sessionPerformanceScore", "int", "Score of the session so far, in percent.", rules=(between(0, 100),)),
    Column("timeOfDay", "int", "Hour of the day, as the app saw it.", rules=(between(0, 23),)),
    Column(
        "experimentPhase",
        "text",
        "Phase of the user's ABAB experiment; NULL outside one.",
        rules=(one_of(*EXPERIMENT_PHASES),),
    ),
    Column("randomizationSeed", "int", "Seed that assigned the user; NULL outside an experiment."),
    Column("contextMetadataId", "text", "The row of context_metadata that applies, if any."),
)

NAMES: tuple[str, ...] = tuple(column.name for column in COLUMNS)

# The total order of rows in every file. Measured on 1,000,000 events of 90 days, 2 threads, median ms of the example
# queries through the view, by (timestamp, id) / by (userId, timestamp, id): events a day 26 / 17, a user's timeline
# 44 / 36, phases 16 / 20, JSON filter 50 / 46, tags 79 / 50, daily series 51 / 70, ABAB table 41 / 27. All are far
# below the bound, so the cheaper order decides: PostgreSQL has it from its index (COPY and Parquet 1.1 times the
# floor, against 1.3 for the other), also for a day of millions, and nobody sorts what does not fit into memory.
ORDER: tuple[str, ...] = ("timestamp", "id")


def arrow_schema(layer: Literal["raw", "export"]) -> pa.Schema:
    """The Arrow schema of one file of data/raw or data/export.

    Every field is nullable, also those that the contract forbids to be NULL: a NULL that the database holds has to
    arrive at `validate`, which counts it.
    """
    import pyarrow as pa

    arrow_types = {
        "string": pa.string(),
        "json": pa.json_(),
        "timestamp[ms]": pa.timestamp("ms"),
        "int32": pa.int32(),
    }
    return pa.schema([pa.field(column.name, arrow_types[getattr(column.types, layer)]) for column in COLUMNS])


def markdown_table() -> str:
    """The column table of the README."""
    lines = ["| column | PostgreSQL | Parquet | DuckDB | NULL | must be | meaning |", "|---|---|---|---|---|---|---|"]
    for c in COLUMNS:
        postgres = f'enum "{c.values}"' if c.kind == "enum" else c.types.postgres
        must = "; ".join(rule.describe() for rule in c.rules)
        null = "yes" if c.nullable else "no"
        lines.append(
            f"| `{c.name}` | {postgres} | {c.types.export} | {c.types.duckdb} | {null} | {must} | {c.description} |"
        )
    return "\n".join(lines)
