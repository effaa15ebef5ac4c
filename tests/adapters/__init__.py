"""Tests of what a single adapter promises beyond the contract."""
