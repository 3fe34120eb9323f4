"""What forecasts are worth: skill against naive forecasts, tests that survive overlapping labels, and a verdict."""
