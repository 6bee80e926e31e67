"""Teams and programs to begin from. Nothing in `worker` or `api_stub` needs them."""
