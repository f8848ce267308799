"""Whatever is said of the data becomes a whole new version of ``data/`` and ``data.dvc``."""
