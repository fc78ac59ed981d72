SELECT
    events.*,
    context.timestamp AS context_timestamp,
    context.mood,
    context.energyLevel,
    context.location,
    context.stressLevel,
    context.sleepHours,
    context.sleepQuality,
    context.hrvScore,
    context.restingHeartRate,
    context.activityStrain,
    context.recoveryScore
FROM behavioral_events AS events
LEFT JOIN context_metadata AS context ON context.id = events.contextMetadataId
