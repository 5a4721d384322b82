"""Descriptions of the nets, and predictions with their weights."""
