from companion.tan.jobs import MEAN, compute, model_of, settings_of, vectors_by_setting  # noqa: F401  # shim
