"""NDIF 0.1.2 on a machine without a GPU, through the hooks that it reads from its environment.

`NDIF_MODEL_IMPORT_PATH` names one of the two model actors here (the sandboxed one runs what an ordinary key sends in
a process of its own), `NDIF_CONTROLLER_IMPORT_PATH` the controller. Queue, wire format, execution, storage and error
messages stay NDIF's; replaced is only what talks to CUDA unconditionally or asks the Hugging Face hub.
"""

import gc
import json
import os
from types import SimpleNamespace

import ray
import torch
from ndif.services.ray.deployments.controller import controller
from ndif.services.ray.deployments.controller.cluster import cluster, evaluator
from ndif.services.ray.deployments.modeling.base import BaseModelDeployment
from ndif.services.ray.sandbox import host
from ndif.services.ray.sandbox.model import SandboxModelDeployment
from nnsight.modeling.huggingface import HuggingFaceModel
from nnsight.modeling.mixins.remotable import CheckpointInfo, bytes_per_element
from ray._private.state import actors
from transformers import AutoConfig, AutoModelForCausalLM

# Jobs of a model in a folder of such a name get that many seconds: for a test.
HURRIED, HURRY = "hurried-", 3.0


class CpuModel(BaseModelDeployment):
    """NDIF's model actor with the weights in main memory."""

    CACHEABLE = False  # there is no GPU memory to move weights out of

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        if HURRIED in self.model_key:
            self.execution_timeout = HURRY

    def load_from_disk(self) -> HuggingFaceModel:
        torch.set_num_threads(int(os.environ["NDIF_CPU_THREADS"]))
        how = {"dispatch": True, "dtype": self.dtype_name, "device": "cpu"}
        model = HuggingFaceModel.from_model_key(self.model_key, **how)
        model._module.requires_grad_(False)
        return model

    def cleanup(self) -> None:
        self.kill_switch.clear()
        self.kill_reason = self.execution_ident = None
        self.model.interleaver.cancel()
        gc.collect()


class CpuSandboxModel(SandboxModelDeployment, CpuModel):
    """The same, with blocks of ordinary keys in a runner process."""

    def open_pool(self, *args: object, **kwargs: object) -> None:
        host.RUNNER_ENV += ("HF_HUB_OFFLINE", "STEERKIT_NDIF_STATE")
        super().open_pool(*args, **kwargs)


class Checkpoints:
    """What the controller asks about a checkpoint before it places it, answered from the files alone.

    NDIF 0.1.2 passes a keyword that nnsight 0.8.1 no longer takes, so that its own way fails on any machine.
    """

    @staticmethod
    def describe_checkpoint(key: str, dtype: str, **_: object) -> CheckpointInfo:
        wanted = json.loads(key.partition(":")[2])
        config = AutoConfig.from_pretrained(wanted["repo_id"], revision=wanted["revision"])
        with torch.device("meta"):
            count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        return CheckpointInfo(int(count * bytes_per_element(dtype)), count, config, wanted["revision"])

    @staticmethod
    def max_tp_size(key: str, **_: object) -> None:
        return None


def list_nodes(**_: object) -> list[SimpleNamespace]:
    """Living nodes, asked of Ray itself instead of its dashboard, which costs ten processes."""
    found = []
    for node in (node for node in ray.nodes() if node["Alive"]):
        about = {"node_id": node["NodeID"], "node_name": node["NodeName"], "labels": node.get("Labels", {})}
        found.append(SimpleNamespace(**about, resources_total=node["Resources"]))
    return found


def list_actors(**_: object) -> list[SimpleNamespace]:
    """Actors and their states, likewise."""
    return [SimpleNamespace(name=actor["Name"], state=actor["State"]) for actor in actors().values()]


@ray.remote(num_cpus=0, max_restarts=-1)
class CpuModelActor(CpuModel):
    """For `NDIF_MODEL_IMPORT_PATH`: every key is trusted."""


@ray.remote(num_cpus=0, max_restarts=-1)
class CpuSandboxActor(CpuSandboxModel):
    """For `NDIF_MODEL_IMPORT_PATH`: blocks of ordinary keys run apart from the model."""


@ray.remote(num_cpus=0, max_restarts=-1, resources={"head": 1})
class CpuController(controller._ControllerActor):
    """For `NDIF_CONTROLLER_IMPORT_PATH`."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        evaluator.Remotable, cluster.list_nodes, controller.list_actors = Checkpoints, list_nodes, list_actors
        super().__init__(*args, **kwargs)
