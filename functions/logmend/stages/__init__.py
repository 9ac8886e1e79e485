"""The stages of the pipeline: pure, but for ``act`` and ``record``, which reach out through ports."""
