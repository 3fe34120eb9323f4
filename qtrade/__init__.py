"""qtrade: Informer forecasts for markets, backtested honestly."""

__version__ = "0.1.0"
