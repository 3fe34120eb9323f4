"""The stories of qtrade: train, backtest, report. Each reads what the one before wrote."""
