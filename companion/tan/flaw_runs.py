from companion.tan.flaws import SWAPPED, groups, overview  # noqa: F401  # shim
