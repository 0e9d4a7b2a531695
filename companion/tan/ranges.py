from companion.tan.flaws import Groups  # noqa: F401  # shim
from companion.tan.means import POINTS, WIDTHS, by_range, fit_quality  # noqa: F401  # shim
