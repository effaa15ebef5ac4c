"""Tests of the commands, through the front door: the real command in a process of its own."""
