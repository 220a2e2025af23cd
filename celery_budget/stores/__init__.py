"""What is remembered outside of a process: the protocols, and versions of them beside."""
