"""Google's APIs, a module each."""
