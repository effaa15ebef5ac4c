"""The parts of the benchmarks that can be tried without measuring."""
