"""The place that is embedded in the program: a data directory, opened by the extension."""
