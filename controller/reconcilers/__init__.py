"""FLOOR 3b. The async shell: it moves values between ports and machines and decides nothing."""
