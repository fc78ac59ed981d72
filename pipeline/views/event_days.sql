SELECT CAST(day AS DATE) AS event_date
FROM generate_series(TIMESTAMP '{first}', TIMESTAMP '{last}', INTERVAL 1 DAY) AS days (day)
