"""Invoices as documents, for people: what stands in one, as a page and as a PDF."""
