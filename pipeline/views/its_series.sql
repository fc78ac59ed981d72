WITH daily AS (
    SELECT
        event_days.event_date,
        count(events.userId) AS events,
        count(DISTINCT events.userId) AS users,
        count(events.sessionPerformanceScore) AS scored_events,
        avg(events.sessionPerformanceScore) AS mean_score
    FROM event_days
    LEFT JOIN behavioral_events AS events ON CAST(events.timestamp AS DATE) = event_days.event_date
    GROUP BY event_days.event_date
)
SELECT
    outcome.name AS outcome,
    event_date,
    date_diff('day', min(event_date) OVER (), event_date) AS day_number,
    CASE outcome.name WHEN 'events' THEN events WHEN 'users' THEN users ELSE mean_score END AS value,
    CASE outcome.name WHEN 'mean_score' THEN scored_events ELSE events END AS n
FROM daily
CROSS JOIN (VALUES ('events'), ('users'), ('mean_score')) AS outcome (name)
