WITH numbered AS (
    SELECT
        userId,
        timestamp,
        eventType,
        sessionPerformanceScore,
        experimentPhase,
        -- TRY_CAST alone would round 1.5.
        CASE WHEN regexp_full_match(session, '[0-9]{1,18}') THEN CAST(session AS BIGINT) END AS app_session
    -- As JSON, in which a text has quotes.
    FROM (SELECT *, CAST(eventData -> '$.session' AS VARCHAR) AS session FROM behavioral_events)
),
-- Events without a number: a session begins with SESSION_STARTED, or after half an hour without any event.
guessed AS (
    SELECT
        *,
        sum(begins) OVER (PARTITION BY userId ORDER BY timestamp, begins DESC ROWS UNBOUNDED PRECEDING) AS guess
    FROM (
        SELECT
            *,
            CAST(
                eventType = 'SESSION_STARTED'
                OR coalesce(timestamp - lag(timestamp) OVER in_order, INTERVAL 1 DAY)
                > INTERVAL 30 MINUTE
                AS INTEGER
            ) AS begins
        FROM numbered
        WHERE app_session IS NULL
        WINDOW in_order AS (PARTITION BY userId ORDER BY timestamp, eventType = 'SESSION_STARTED' DESC)
    )
),
phases AS (
    SELECT
        userId,
        app_session,
        guess,
        experimentPhase,
        min(timestamp) AS started,
        max(timestamp) AS ended,
        count(*) AS events,
        count(sessionPerformanceScore) AS scored_events,
        coalesce(sum(sessionPerformanceScore), 0) AS score_sum
    FROM (
        SELECT userId, timestamp, sessionPerformanceScore, experimentPhase, app_session, NULL AS guess
        FROM numbered
        WHERE app_session IS NOT NULL
        UNION ALL
        SELECT userId, timestamp, sessionPerformanceScore, experimentPhase, NULL, guess
        FROM guessed
    )
    GROUP BY userId, app_session, guess, experimentPhase
),
whole AS (
    SELECT
        userId,
        app_session,
        guess,
        min(started) AS started,
        max(ended) AS ended,
        sum(events) AS events,
        sum(scored_events) AS scored_events,
        sum(score_sum) AS score_sum,
        arg_min(coalesce(experimentPhase, ''), (started, experimentPhase)) AS phase,
        arg_min(scored_events, (started, experimentPhase)) AS phase_scored_events,
        arg_min(score_sum, (started, experimentPhase)) AS phase_score_sum
    FROM phases
    GROUP BY userId, app_session, guess
)
SELECT
    userId,
    row_number() OVER (PARTITION BY userId ORDER BY started, app_session, guess) AS session_number,
    app_session,
    started,
    ended,
    CAST(events AS BIGINT) AS events,
    CAST(scored_events AS BIGINT) AS scored_events,
    CAST(score_sum AS DOUBLE) / nullif(scored_events, 0) AS mean_score,
    nullif(phase, '') AS phase,
    CAST(phase_scored_events AS BIGINT) AS phase_scored_events,
    CAST(phase_score_sum AS DOUBLE) / nullif(phase_scored_events, 0) AS phase_score
FROM whole
