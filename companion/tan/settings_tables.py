from companion.tan.tables import (  # noqa: F401  # shim
    all_correlations,
    cosines_of,
    name_of,
    over_models,
    pairs_of_models,
    relative_of,
    shifts_of,
    with_published,
)
