-- What is the daily mean score of the experiment's users, with the terms of an interrupted time series?
-- The interruption is the first timestamp of intervention_A_1. With no experiment in the data, the series is that of
-- all users and level and days_since stay 0. An ABAB experiment withdraws the intervention again: `treated`, the share
-- of events that fall into one, says when it was in force.
WITH interruption AS (
    SELECT CAST(min(timestamp) AS DATE) AS first_day
    FROM behavioral_events
    WHERE experimentPhase = 'intervention_A_1'
),
participants AS (
    SELECT DISTINCT userId FROM behavioral_events WHERE experimentPhase IS NOT NULL
),
daily AS (
    SELECT
        CAST(timestamp AS DATE) AS day,
        count(sessionPerformanceScore) AS n,
        count(DISTINCT userId) AS users,
        round(avg(sessionPerformanceScore), 2) AS mean_score,
        round(avg(CAST(coalesce(experimentPhase LIKE 'intervention%', false) AS INTEGER)), 2) AS treated
    FROM behavioral_events
    WHERE userId IN (SELECT userId FROM participants) OR NOT EXISTS (SELECT 1 FROM participants)
    GROUP BY day
)
SELECT
    day,
    date_diff('day', min(day) OVER (), day) AS day_number,
    CAST(coalesce(day >= first_day, false) AS INTEGER) AS level,
    greatest(coalesce(date_diff('day', first_day, day), 0), 0) AS days_since,
    n,
    users,
    mean_score,
    treated
FROM daily
CROSS JOIN interruption
ORDER BY day;
