"""Devices, the registry of backends, the one funnel `call`, buffers, random streams, record and replay."""
