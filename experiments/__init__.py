"""From a config to a figure: run, sweep, data, train, evaluate, results, figures, report."""
