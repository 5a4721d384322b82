"""From a config file to the checked runs of an experiment."""
