"""Tests of what stands behind the make targets."""
