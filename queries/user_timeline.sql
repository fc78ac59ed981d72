-- What did the user of the latest event do in the seven days up to it? At most 50 events, newest first.
-- The instant and the user are known before the main scan starts, which then skips row groups that are older.
WITH latest AS MATERIALIZED (
    SELECT max(timestamp) AS instant FROM behavioral_events
)
SELECT timestamp, eventType, contentType, sessionPerformanceScore, eventData
FROM behavioral_events
WHERE
    timestamp >= (SELECT instant FROM latest) - INTERVAL 7 DAY
    -- min(): two users may share the millisecond.
    AND userId = (SELECT min(userId) FROM behavioral_events WHERE timestamp = (SELECT instant FROM latest))
ORDER BY timestamp DESC, id
LIMIT 50;
