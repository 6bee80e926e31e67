"""What things are: runs, messages, events, principals. Values only; nothing here reads or writes anything."""
