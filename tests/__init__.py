"""The tests, in the same rooms as the code, and the real parts they run against."""
