WITH active AS (
    SELECT
        userId,
        CAST(timestamp AS DATE) AS event_date,
        count(*) AS events,
        count(sessionPerformanceScore) AS scored_events,
        coalesce(sum(sessionPerformanceScore), 0) AS score_sum,
        count(DISTINCT time_bucket(INTERVAL 1 MINUTE, timestamp)) AS active_minutes
    FROM behavioral_events
    GROUP BY ALL
),
begun AS (
    SELECT userId, CAST(started AS DATE) AS event_date, count(*) AS sessions
    FROM sessions
    GROUP BY ALL
),
users AS (
    SELECT userId, min(event_date) AS first_date
    FROM active
    GROUP BY userId
)
SELECT
    users.userId,
    event_days.event_date,
    coalesce(active.events, 0) AS events,
    coalesce(begun.sessions, 0) AS sessions,
    coalesce(active.scored_events, 0) AS scored_events,
    CAST(active.score_sum AS DOUBLE) / nullif(active.scored_events, 0) AS mean_score,
    CAST(coalesce(active.score_sum, 0) AS BIGINT) AS score_sum,
    coalesce(active.active_minutes, 0) AS active_minutes
FROM users
INNER JOIN event_days ON event_days.event_date >= users.first_date
LEFT JOIN active ON active.userId = users.userId AND active.event_date = event_days.event_date
LEFT JOIN begun ON begun.userId = users.userId AND begun.event_date = event_days.event_date
