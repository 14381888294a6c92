"""The stream host: events consumed, scored and kept, none lost and none counted twice."""
