"""Tests of what is around the program: units, images, scripts."""
