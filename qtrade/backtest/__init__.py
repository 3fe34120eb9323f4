"""What decided weights would have earned: costs, the vectorbt engine, a plain reference loop, metrics."""
