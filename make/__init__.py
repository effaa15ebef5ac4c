"""What stands behind the make targets: checks that no tool brings."""
