"""Tasks and ladders as data: one NAME.json each, with the measurements behind it."""
