"""The monitored resource of this process, for outcomes without a VM.

A second-generation function is a Cloud Run service, and Cloud Logging files its own entries under
``cloud_run_revision`` (cloud.google.com/logging/docs/api/v2/resource-list). google-cloud-logging would take
it for a first-generation function (``cloud_function``), since ``FUNCTION_TARGET`` is set.
"""

import logging
from collections.abc import Mapping

from logmend.adapters.libraries import ALONE

REGION = "/computeMetadata/v1/instance/region"
_SECONDS = 2.0

log = logging.getLogger(__name__)


def of_process(project: str, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return type and labels: the revision's if Cloud Run's variables are set, else ``global``.

    The region comes from the metadata server, within two seconds; without an answer its label is empty.
    """
    if "K_SERVICE" not in environ:
        return "global", {"project_id": project}
    return "cloud_run_revision", {
        "project_id": project,
        "location": _region(environ.get("GCE_METADATA_HOST", "metadata.google.internal")),
        "service_name": environ["K_SERVICE"],
        "revision_name": environ.get("K_REVISION", ""),
        "configuration_name": environ.get("K_CONFIGURATION", ""),
    }


def _region(host: str) -> str:
    with ALONE:
        import requests

    try:
        with requests.Session() as session:
            session.trust_env = False  # a proxy cannot reach it
            answer = session.get(
                f"http://{host}{REGION}", headers={"Metadata-Flavor": "Google"}, timeout=_SECONDS
            )
        answer.raise_for_status()
    except requests.RequestException as error:
        log.warning("the metadata server does not say the region: %s", error)
        return ""
    return answer.text.rpartition("/")[2]  # projects/NUMBER/regions/REGION
