-- Which tags do wrong answers carry most often?
-- Only one eventType is unnested, since parsing the JSON of every event would take most of the time.
SELECT tag, count(*) AS wrong_answers
FROM (
    SELECT unnest(TRY_CAST(eventData -> '$.tags' AS VARCHAR[])) AS tag
    FROM behavioral_events
    WHERE eventType = 'FLASHCARD_INCORRECT'
)
GROUP BY tag
ORDER BY wrong_answers DESC, tag;
