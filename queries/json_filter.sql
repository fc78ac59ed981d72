-- Which flashcards did people look at for longer than 3 seconds before they flipped them? The 100 longest.
-- eventType narrows the rows first and LIMIT again, since every read of JSON parses text. TRY_CAST: no contract binds
-- what is inside.
WITH flips AS (
    SELECT id, userId, timestamp, eventData, TRY_CAST(eventData ->> '$.duration_ms' AS BIGINT) AS duration_ms
    FROM behavioral_events
    WHERE eventType = 'FLASHCARD_FLIP'
),
longest AS (
    SELECT *
    FROM flips
    WHERE duration_ms > 3000
    ORDER BY duration_ms DESC, id
    LIMIT 100
)
SELECT id, userId, timestamp, eventData ->> '$.card.deck' AS deck, duration_ms
FROM longest
ORDER BY duration_ms DESC, id;
