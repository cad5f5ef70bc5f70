"""Load: how fast, how many writes and how much CPU, beside what the bare servers can do (`make bench`)."""
