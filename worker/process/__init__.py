"""What one process holds: its rooms, its leases, what it says of itself, and the repair pass that it runs."""
