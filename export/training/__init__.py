"""Short, seeded trainings of the checkpoints in export/recipes/weights/."""
