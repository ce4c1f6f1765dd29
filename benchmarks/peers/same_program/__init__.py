"""Every server with the same program, the same settings and the same code around it."""
