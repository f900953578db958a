"""The work itself: training-time twin of the integer network, recipes, attempt loop, evaluators and lab."""
