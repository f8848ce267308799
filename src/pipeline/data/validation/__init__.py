"""Whether the data may be used: Great Expectations judges the manifest, and pages show it."""
