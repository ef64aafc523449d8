"""Layers whose parameters are divided among processes, which compute one product together."""
