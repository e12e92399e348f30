"""Is bone bright or dark? Decided from the pixels, for pictures that carry no header that says so."""
