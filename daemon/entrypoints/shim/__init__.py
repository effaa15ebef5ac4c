"""The RunPod shim: an HTTP endpoint that writes the queued document. ``app`` puts it together."""
