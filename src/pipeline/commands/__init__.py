"""The commands of ``python -m pipeline``, by topic.

Each imports what it runs after it has read the settings, so that ``--help`` and a slip in
``params.yaml`` are answered in an instant.
"""
