"""context_metadata: how users were when they used the app. One row is one check-in; events point to theirs.

`app/schema.prisma` is the source of names, types, nullability and enum values; a test compares the two. Ranges are what
can be, not what is usual: a value beyond is a mistake of an app or a device. Where they are from:

- sleepHours: a day has 24 hours.
- energyLevel, stressLevel, sleepQuality: numeric rating scales, 0 to 10 (Jensen, Karoly and Braver 1986, Pain 27,
  117-126); the app asks from 1.
- restingHeartRate, in beats a minute: up to 220, the highest rate that "220 minus age" gives (Fox, Naughton and Haskell
  1971, Annals of Clinical Research 3, 404-432); down to 20, below every rate that is on record.
- hrvScore, RMSSD in milliseconds: means of healthy adults are 19 to 75 (Nunan, Sandercock and Brodie 2010, Pacing and
  Clinical Electrophysiology 33, 1407-1417); up to 300, four times the highest.
- activityStrain, 0 to 21, and recoveryScore, 0 to 100: the scales of WHOOP, whose words they are.
"""

from __future__ import annotations

from schemas.rules import CUID, between, finite, matches, not_future, not_older_than, one_of, unique
from schemas.table import Column, Table

MAX_AGE_YEARS = 5

CONTEXT_METADATA = Table(
    name="context_metadata",
    description="One row is one check-in of a user: how they felt, slept and were, by themselves or a wearable.",
    columns=(
        Column(
            "id",
            "text",
            "The check-in, a cuid made by the app.",
            False,
            (matches(CUID), unique()),
            pseudonym="contextMetadataId",
        ),
        Column("userId", "text", "Whose, a cuid.", False, (matches(CUID),), pseudonym="userId"),
        Column(
            "timestamp",
            "timestamp",
            "When, in UTC, to the millisecond.",
            False,
            (not_future(), not_older_than(MAX_AGE_YEARS)),
        ),
        Column(
            "mood",
            "enum",
            "Mood, as the user said.",
            rules=(one_of("VERY_LOW", "LOW", "MEDIUM", "HIGH", "VERY_HIGH"),),
            enum="MoodLevel",
        ),
        Column("energyLevel", "int", "Energy, as the user rated it.", rules=(between(0, 10),)),
        Column(
            "location",
            "enum",
            "Where the user was.",
            rules=(one_of("HOME", "LIBRARY", "CAFE", "CAMPUS", "COMMUTE", "OTHER"),),
            enum="LocationType",
        ),
        Column("stressLevel", "int", "Stress, as the user rated it.", rules=(between(0, 10),)),
        Column("notes", "text", "What the user wrote; may hold anything, names too.", free=True),
        Column(
            "sleepHours", "float", "Hours of sleep the night before.", rules=(finite(), between(0, 24)), unit="hours"
        ),
        Column("sleepQuality", "int", "Sleep, as the user rated it.", rules=(between(0, 10),)),
        Column(
            "hrvScore",
            "int",
            "Heart rate variability, RMSSD in milliseconds.",
            rules=(between(0, 300),),
            unit="milliseconds",
        ),
        Column(
            "restingHeartRate",
            "int",
            "Resting heart rate, beats a minute.",
            rules=(between(20, 220),),
            unit="beats per minute",
        ),
        Column("activityStrain", "float", "Strain of the day, 0 to 21.", rules=(finite(), between(0, 21))),
        Column("recoveryScore", "int", "Recovery, in percent.", rules=(between(0, 100),), unit="percent"),
        Column("dataSource", "text", "Where the values are from, as the app names it."),
    ),
    order=("timestamp", "id"),
    key="id",
    time="timestamp",
    user="userId",
    caution="It says how people felt, slept and were, and where: data on health, which many laws protect specially.",
    daily=False,  # users may skip it, or not use it at all
    counted=("mood", "location"),
    indexes=(("idx_context_user_timestamp", ("userId", "timestamp")),),
)
