from companion.tan.jobs import MEAN, pairwise  # noqa: F401  # shim
from companion.tan.tables import cosines, relative  # noqa: F401  # shim
from steerkit.prompts import SETTINGS  # noqa: F401  # shim
