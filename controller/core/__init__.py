"""FLOOR 0: values and rules; sync, pure and total."""
