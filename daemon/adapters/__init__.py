"""What stands behind the ports: stores of documents and of media, each with its own library only."""
