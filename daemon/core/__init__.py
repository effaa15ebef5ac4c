"""The pure core: values, rules, validation, batching and the ports. No I/O, no clock, no randomness, no globals."""
