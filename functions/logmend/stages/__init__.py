"""The stages of the pipeline. Pure, but for ``act``, which reaches out through ports."""
