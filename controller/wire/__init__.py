"""FLOOR 3a. Adapters: the only room with sockets. Everything that leaves it raises PortError and nothing else."""
