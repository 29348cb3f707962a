"""Learning rates over time: a schedule is a function step -> rate, and each number it is made of may be traced."""
