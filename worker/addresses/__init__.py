"""The addresses of the broker and of the database: one parser each, for every part of the product.

An option of an address is used, or refused by its name. A refusal never contains another part of the address: any part
can belong to a password with special characters.
"""


class AddressError(ValueError):
    """An address cannot be used. The message says why, and contains no part of it that could be secret."""
