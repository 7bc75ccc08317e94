"""What the places share whose counters are in a store that decides, PostgreSQL and Redis."""
