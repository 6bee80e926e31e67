"""What one process holds: its runtime, its leases, its presence among the workers, and its repair pass."""
