"""What people and programs start: the command line and the demo."""
