"""Real parts for tests: the Firestore emulator, a Cloud Storage server, a faulty network between."""
