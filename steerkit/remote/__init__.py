"""The same traces on an NDIF server. `run` is the one function that every trace of the package goes through."""

from steerkit.remote.address import OFF, host_of, server
from steerkit.remote.failures import RemoteFailure
from steerkit.remote.traces import JOB_TOKENS, run, site_of

__all__ = ["JOB_TOKENS", "OFF", "RemoteFailure", "host_of", "run", "server", "site_of"]
