"""Floor 0: values and decisions. Pure: no clock, no files, no environment, no network."""
