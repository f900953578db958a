"""A whole network on one machine: its plan, its processes, its screen and its report."""
