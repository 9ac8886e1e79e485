"""Adapters for Google's APIs."""
