"""One suite for every store and one for every blob store: what the flow may rely on, whatever stands behind it."""
