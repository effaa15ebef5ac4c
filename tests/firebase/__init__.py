"""The Firebase side: security rules, and apps on the real JavaScript SDK."""
