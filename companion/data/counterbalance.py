# shim
from companion.data.ask import OTHER, item_id, letter_example, with_others, yes_no_example  # noqa: F401
