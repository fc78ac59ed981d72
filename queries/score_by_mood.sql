-- Mean score by the mood of the check-in that events point to; needs context_metadata.
SELECT
    mood,
    count(*) AS scored_events,
    count(DISTINCT userId) AS users,
    round(avg(sessionPerformanceScore), 1) AS mean_score,
    round(avg(sleepHours), 2) AS mean_sleep_hours
FROM events_with_context
WHERE sessionPerformanceScore IS NOT NULL AND mood IS NOT NULL
GROUP BY mood
ORDER BY array_position(['VERY_LOW', 'LOW', 'MEDIUM', 'HIGH', 'VERY_HIGH'], mood);
