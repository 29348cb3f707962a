"""Learning-rate schedules: functions step -> rate, whose numbers may be traced."""
