"""What the operator declared: bands, task rules and defaults, checked and settled."""
