-- How many events, users and sessions did each UTC day have?
SELECT
    CAST(timestamp AS DATE) AS day,
    count(*) AS events,
    count(DISTINCT userId) AS users,
    count(*) FILTER (eventType = 'SESSION_STARTED') AS sessions
FROM behavioral_events
GROUP BY day
ORDER BY day;
