"""Sections of the training panel and the logic behind them: all of it knows Qt, none of it MRML."""
