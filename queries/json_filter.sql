-- Which flashcards did people look at for longer than 3 seconds before they flipped them? The 100 longest.
-- eventType narrows the rows first, since every read of JSON parses text. TRY_CAST: no contract binds what is inside.
WITH flips AS (
    SELECT id, userId, timestamp, eventData, TRY_CAST(eventData ->> '$.duration_ms' AS BIGINT) AS duration_ms
    FROM behavioral_events
    WHERE eventType = 'FLASHCARD_FLIP'
)
SELECT id, userId, timestamp, eventData ->> '$.card.deck' AS deck, duration_ms
FROM flips
WHERE duration_ms > 3000
ORDER BY duration_ms DESC, id
LIMIT 100;
