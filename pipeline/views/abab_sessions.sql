SELECT
    userId,
    row_number() OVER (PARTITION BY userId ORDER BY session_number) AS session_number,
    phase,
    row_number() OVER (PARTITION BY userId, phase ORDER BY session_number) AS number_in_phase,
    CAST(started AS DATE) AS event_date,
    phase_scored_events AS scored_events,
    phase_score AS score
FROM sessions
WHERE phase IS NOT NULL
