-- How many events and users does each phase of the experiment have, and what is its mean score?
SELECT
    experimentPhase AS phase,
    count(*) AS events,
    count(DISTINCT userId) AS users,
    count(sessionPerformanceScore) AS scored,
    round(avg(sessionPerformanceScore), 2) AS mean_score
FROM behavioral_events
WHERE experimentPhase IS NOT NULL
GROUP BY phase
ORDER BY min(timestamp), phase;
