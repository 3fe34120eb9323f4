"""From bars to model inputs: indicators, calendar marks, the target and the scaler. Row t uses bars <= t."""
