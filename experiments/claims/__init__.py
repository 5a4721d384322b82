"""Every claim of the notes: how it is measured, and the verdict on it."""
