"""The book: its generated pages, what it offers to take away, and the site and the PDF compiled from them."""
