"""Other systems' reports of usage, translated to what a usage event says. Pure: no clock, no I/O.

Each module has one `translate(item, options)`: a decoded JSON object in, a Told out. It raises
ShapeInvalid for an item that cannot be told apart or charged to anybody, and nothing else whatever
the object holds. The same item always translates to the same Told, so a repeat is a duplicate.
"""
