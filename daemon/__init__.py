"""easeld: the daemon that turns queued documents into images and videos."""
