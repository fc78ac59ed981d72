-- Synthetic events that obey the contract, the same rows on every machine. psql's variables: rows, days (whole UTC
-- days before 2025-10-28), last_day_rows, how many of the rows lie in the last day, the others being spread evenly, and
-- title, with which each row's title begins.
-- Rows arrive in the order of time, as an app writes them. hashint8extended stands in for random().
INSERT INTO context_metadata (id, "userId", timestamp, "mood", "energyLevel")
SELECT
    'c' || substr(md5('m' || i), 1, 24),
    'c' || substr(md5('u' || i), 1, 24),
    timestamp '2025-10-28' - :days * interval '1 day',
    'HIGH',
    1 + i % 10
FROM generate_series(0, 999) AS i;

INSERT INTO behavioral_events
SELECT
    'c' || substr(md5('e' || i), 1, 24),
    'c' || substr(md5('u' || person), 1, 24),
    (enum_range(NULL::"EventType"))[1 + a % 16],
    jsonb_build_object(
        'action', (ARRAY['flip', 'open', 'answer', 'close'])[1 + a % 4],
        'duration_ms', c % 9000,
        'tags', jsonb_build_array('t' || b % 13, 't' || b % 7),
        'card', jsonb_build_object('deck', (ARRAY['Größen', 'Ökologie', 'Σημεία'])[1 + b % 3]),
        'device', jsonb_build_object('os', (ARRAY['ios', 'android', 'web'])[1 + c % 3], 'version', '17.' || c % 10),
        'title', :'title' || b % 1000
    ),
    timestamp '2025-10-28' - :days * interval '1 day' + at_ms * interval '1 ms',
    (ARRAY['RUSHED', 'NORMAL', 'THOROUGH', NULL]::"CompletionQuality"[])[1 + (a >> 4) % 4],
    (ARRAY['flashcard', 'lecture', 'mission', NULL])[1 + (a >> 6) % 4],
    -- The weekday and hour of an app three hours ahead of UTC; 2025-10-28 is a Tuesday.
    (2 + 6 * :days + (at_ms + 10800000) / 86400000) % 7,
    (ARRAY['easy', 'medium', 'hard', NULL])[1 + (a >> 8) % 4],
    (ARRAY['LOW', 'MEDIUM', 'HIGH', NULL]::"EngagementLevel"[])[1 + (a >> 10) % 4],
    CASE WHEN b % 5 > 0 THEN c % 101 END,
    (at_ms / 3600000 + 3) % 24,
    -- Every fifth user takes part in the experiment, whose phases are the quarters of the window.
    CASE WHEN person % 5 = 0 THEN
        (ARRAY['baseline_1', 'intervention_A_1', 'baseline_2', 'intervention_A_2'])[
            (1 + at_ms * 4 / 86400000 / :days)::int
        ]
    END,
    CASE WHEN person % 5 = 0 THEN person * 31 END,
    CASE WHEN c % 4 = 0 THEN 'c' || substr(md5('m' || b % 1000), 1, 24) END
FROM generate_series(0::bigint, :rows - 1) AS i
CROSS JOIN LATERAL (SELECT hashint8extended(i, 0) AS hash) AS of_row
CROSS JOIN LATERAL (
    SELECT
        (hash & 65535)::int AS a,
        (hash >> 16 & 65535)::int AS b,
        (hash >> 32 & 65535)::int AS c,
        (hash >> 48 & 32767)::int % 2000 AS person,
        -- Milliseconds since the window began.
        CASE
            WHEN i < :rows - :last_day_rows THEN i * :days * 86400000 / nullif(:rows - :last_day_rows, 0)
            ELSE (:days - 1) * 86400000::bigint
                + (i - :rows + :last_day_rows) * 86400000 / nullif(:last_day_rows, 0)
        END AS at_ms
) AS drawn;
