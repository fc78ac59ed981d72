-- For every user of the experiment: the mean score of each phase, and the effect of the intervention.
WITH phases AS (
    SELECT
        userId,
        avg(sessionPerformanceScore) FILTER (experimentPhase = 'baseline_1') AS baseline_1,
        avg(sessionPerformanceScore) FILTER (experimentPhase = 'intervention_A_1') AS intervention_A_1,
        avg(sessionPerformanceScore) FILTER (experimentPhase = 'baseline_2') AS baseline_2,
        avg(sessionPerformanceScore) FILTER (experimentPhase = 'intervention_A_2') AS intervention_A_2
    FROM behavioral_events
    WHERE experimentPhase IS NOT NULL
    GROUP BY userId
)
SELECT
    userId,
    round(baseline_1, 2) AS baseline_1,
    round(intervention_A_1, 2) AS intervention_A_1,
    round(baseline_2, 2) AS baseline_2,
    round(intervention_A_2, 2) AS intervention_A_2,
    round((intervention_A_1 + intervention_A_2) / 2 - (baseline_1 + baseline_2) / 2, 2) AS effect
FROM phases
ORDER BY userId;
