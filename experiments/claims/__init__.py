"""Every claim of the notes: how it is measured, and the verdict that the rows carry."""
