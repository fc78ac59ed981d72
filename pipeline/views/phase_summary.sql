SELECT
    experimentPhase AS phase,
    count(DISTINCT userId) AS users,
    count(*) AS events,
    count(sessionPerformanceScore) AS scored_events,
    avg(sessionPerformanceScore) AS mean_score,
    -- By whole numbers, which give the same bits whatever the number of threads.
    sqrt(
        (
            count(sessionPerformanceScore) * sum(CAST(sessionPerformanceScore AS BIGINT) * sessionPerformanceScore)
            - sum(sessionPerformanceScore) * sum(sessionPerformanceScore)
        )
        / nullif(count(sessionPerformanceScore) * (count(sessionPerformanceScore) - 1), 0)
    ) AS sd_score,
    CAST(min(timestamp) AS DATE) AS first_date,
    CAST(max(timestamp) AS DATE) AS last_date
FROM behavioral_events
WHERE experimentPhase IS NOT NULL
GROUP BY experimentPhase
