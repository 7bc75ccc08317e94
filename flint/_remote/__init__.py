"""The place that is a Flint server, reached by HTTP."""
