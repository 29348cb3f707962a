"""How layers become networks: several layers make one."""
