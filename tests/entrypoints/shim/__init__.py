"""The shim, through HTTP."""
