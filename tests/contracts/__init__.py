"""One suite per store protocol, run on every version of it."""
