"""What Kubernetes would be given, and what it refuses: strict schemas, and Pod Security.

Kubernetes' own kinds are checked against its published schemas (kubernetes-validate). Those of
KubeRay (ray.io/v1, version 1.7) and of the Prometheus operator are written down here from their API
references, as far as this project may use them: a field that is not here is refused.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

from tests.runs import ROOT

KUBERAY = ROOT / "deploy" / "kuberay"
KUBERNETES = "1.34"
KUBECTL = Path(sys.executable).with_name("kubectl")

Resource = dict[str, Any]
_STRING, _INTEGER, _FLAG = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
_STRINGS = {"type": "object", "additionalProperties": _STRING}
_ANY_POD: Resource = {"type": "object"}  # checked as one of Kubernetes' own kinds


def _fields(*required: str, **properties: Any) -> Resource:
    closed = {"type": "object", "additionalProperties": False}
    return {**closed, "required": list(required), "properties": properties}


def _list(items: Resource) -> Resource:
    return {"type": "array", "items": items}


def _one_of(*values: str) -> Resource:
    return {"enum": list(values)}


_GROUP = {
    "labels": _STRINGS,
    "rayStartParams": _STRINGS,
    "resources": _STRINGS,
    "template": _ANY_POD,
}
_HEAD = _fields(*("rayStartParams", "template"), **_GROUP, enableIngress=_FLAG, serviceType=_STRING)
_WORKERS = _fields(
    *("groupName", "rayStartParams", "template", "minReplicas", "maxReplicas"),
    **_GROUP,
    groupName=_STRING,
    replicas=_INTEGER,
    minReplicas=_INTEGER,
    maxReplicas=_INTEGER,
    numOfHosts=_INTEGER,
    idleTimeoutSeconds=_INTEGER,
)
_CLUSTER = _fields(
    "headGroupSpec",
    authOptions=_fields(mode=_one_of("token", "disabled"), secretName=_STRING),
    enableInTreeAutoscaling=_FLAG,
    headGroupSpec=_HEAD,
    headServiceAnnotations=_STRINGS,
    rayVersion=_STRING,
    suspend=_FLAG,
    workerGroupSpecs=_list(_WORKERS),
)
_RAY_JOB = _fields(
    activeDeadlineSeconds=_INTEGER,
    backoffLimit=_INTEGER,
    entrypoint=_STRING,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=_STRING,
    jobId=_STRING,
    metadata=_STRINGS,
    preRunningDeadlineSeconds=_INTEGER,
    rayClusterSpec=_CLUSTER,
    runtimeEnvYAML=_STRING,
    shutdownAfterJobFinishes=_FLAG,
    submissionMode=_one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    submitterConfig=_fields(backoffLimit=_INTEGER),
    submitterPodTemplate=_ANY_POD,
    suspend=_FLAG,
    ttlSecondsAfterFinished=_INTEGER,
)
_DURATION = {"type": "string", "pattern": r"^(\d+ms|\d+[smhdwy])+$"}
_RELABELING = _fields(
    action=_STRING,
    regex=_STRING,
    replacement=_STRING,
    separator=_STRING,
    sourceLabels=_list(_STRING),
    targetLabel=_STRING,
)
_ENDPOINT = _fields(
    honorLabels=_FLAG,
    interval=_DURATION,
    metricRelabelings=_list(_RELABELING),
    path=_STRING,
    port=_STRING,
    relabelings=_list(_RELABELING),
    scrapeTimeout=_DURATION,
)
_POD_MONITOR = _fields(
    *("podMetricsEndpoints", "selector"),
    jobLabel=_STRING,
    namespaceSelector=_fields(any=_FLAG, matchNames=_list(_STRING)),
    podMetricsEndpoints=_list(_ENDPOINT),
    podTargetLabels=_list(_STRING),
    selector=_fields(matchLabels=_STRINGS, matchExpressions=_list({"type": "object"})),
)
_EXPRESSION = {"anyOf": [_STRING, _INTEGER]}
_RULE = {
    **_fields(
        "expr",
        alert=_STRING,
        annotations=_STRINGS,
        expr=_EXPRESSION,
        labels=_STRINGS,
        record=_STRING,
        **{"for": _DURATION, "keep_firing_for": _DURATION},
    ),
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
}
_RULES = _fields(
    groups=_list(_fields("name", interval=_DURATION, name=_STRING, rules=_list(_RULE)))
)
CUSTOM = {
    ("ray.io/v1", "RayJob"): _RAY_JOB,
    ("monitoring.coreos.com/v1", "PodMonitor"): _POD_MONITOR,
    ("monitoring.coreos.com/v1", "PrometheusRule"): _RULES,
}


def rendered(directory: Path) -> list[Resource]:
    """What `kubectl apply -k` of a directory sends."""
    command = [KUBECTL, "kustomize", directory]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "deprecated" not in done.stderr, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def pod_templates(resource: Resource) -> dict[str, Resource]:
    """All pods that a job has started, by their component."""
    spec = resource["spec"]
    cluster = spec["rayClusterSpec"]
    groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    templates = [spec["submitterPodTemplate"], *(group["template"] for group in groups)]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}


def validate(resource: Resource) -> None:
    """Refuses what its API server would refuse, and fields that it would drop.

    Raises:
        jsonschema.ValidationError: names the field.
    """
    schema = CUSTOM.get((resource["apiVersion"], resource["kind"]))
    if schema is None:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
        return
    jsonschema.validate(resource["spec"], schema, cls=jsonschema.Draft202012Validator)
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": resource["metadata"]}
    kubernetes_validate.validate(bare, KUBERNETES, strict=True)
    if resource["kind"] == "RayJob":
        for template in pod_templates(resource).values():
            pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {}, "template": template}
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)


_OUTSIDE = ("hostNetwork", "hostPID", "hostIPC", "initContainers", "ephemeralContainers")
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret"}
_VOLUMES |= {"persistentVolumeClaim"}


def what_is_not_restricted(pod: Resource) -> list[str]:
    """What Pod Security's level "restricted" refuses of a pod's spec; and a root to write to."""
    context = pod.get("securityContext", {})
    wrong = [field for field in _OUTSIDE if pod.get(field)]
    wrong += [
        volume["name"] for volume in pod["volumes"] if not volume.keys() <= _VOLUMES | {"name"}
    ]
    if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
        wrong.append("runAsNonRoot")
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        wrong.append("seccompProfile")
    for container in pod["containers"]:
        own = container.get("securityContext", {})
        wanted = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        if own != wanted:
            wrong.append(f"securityContext of {container['name']}: {own}")
        wrong += [f"hostPort {x}" for x in container.get("ports", ()) if "hostPort" in x]
    return wrong
