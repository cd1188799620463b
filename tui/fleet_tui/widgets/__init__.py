"""Widgets that draw lines handed to them. They send messages up and never see the store or the network."""
