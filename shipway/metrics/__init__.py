"""What a served model says of itself in numbers."""
