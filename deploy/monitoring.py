"""Make the log-based metrics, alerts and dashboard of monitoring.json, for deploy/gcloud.sh; or remove them.

    ACCESS_TOKEN=$(gcloud auth print-access-token) python3 deploy/monitoring.py PROJECT NAME [--remove]

What is there is changed, what is missing made, and alerts that are not defined any more are removed: run it
again at any time. ALERT_CHANNELS (projects/P/notificationChannels/ID,…) are told; without it, those that were
before. GUIDE_URL is where your people read docs/operations.md. gcloud's own variables replace endpoints.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

PAUSE = float(os.environ.get("PAUSE", "20"))
TRIES = 40
"""For an alert on a metric that was just made, which takes up to ten minutes to be there for alerts."""


def endpoint(service: str) -> str:
    """Give an API's address, with a slash behind it."""
    known = f"https://{service}.googleapis.com/"
    return os.environ.get(f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}", known)


def call(method: str, url: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Send one request and give its JSON; None if there is no such thing. Anything else ends the program."""
    headers = {"Authorization": f"Bearer {os.environ['ACCESS_TOKEN']}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310  Google's, or the caller's
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            said: dict[str, Any] = json.load(answer)
            return said
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        sys.exit(f"{method} {url}: {error.code} {error.read().decode(errors='replace')}")


def listed(url: str, key: str) -> list[dict[str, Any]]:
    """Give every item of a list, page after page."""
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = call("GET", f"{url}?pageSize=500&pageToken={urllib.parse.quote(token)}") or {}
        found += page.get(key, [])
        if not (token := page.get("nextPageToken", "")):
            return found


def definitions(project: str, name: str) -> dict[str, Any]:
    """Read monitoring.json, filled in."""
    text = Path(__file__).with_name("monitoring.json").read_text()
    guide = os.environ.get("GUIDE_URL", "")
    filled = {"@PROJECT@": project, "@NAME@": name, "@PREFIX@": name.replace("-", "_"), "@GUIDE@": guide}
    for word, value in filled.items():
        text = text.replace(word, value)
    defined: dict[str, Any] = json.loads(text)
    for policy in defined["policies"]:
        links = policy["documentation"]["links"]
        policy["documentation"]["links"] = [link for link in links if not link["url"].startswith("#")]
    return defined


def put(method: str, at: str, policy: dict[str, Any], told: list[str]) -> None:
    """Make or change an alert, once its metric is there."""
    for _ in range(TRIES):
        if call(method, at, policy | {"notificationChannels": told}) is not None:
            return
        time.sleep(PAUSE)
    sys.exit(f"{policy['displayName']}: its metric is not there yet; run this again in some minutes")


def alerts(url: str, name: str, wanted: dict[str, dict[str, Any]]) -> None:
    """Change, make and delete alerts, so that there are those that are wanted, each once."""
    told = [each for each in os.environ.get("ALERT_CHANNELS", "").split(",") if each]
    missing = dict(wanted)
    for there in listed(url, "alertPolicies"):
        labels = there.get("userLabels", {})
        if labels.get("logmend-name") != name:
            continue
        at = f"{url.removesuffix('/alertPolicies')}/alertPolicies/{there['name'].rpartition('/')[2]}"
        if (policy := missing.pop(labels.get("logmend-alert"), None)) is None:
            call("DELETE", at)
        else:
            put("PATCH", at, policy, told or there.get("notificationChannels", []))
    for policy in missing.values():
        put("POST", url, policy, told)


def dashboard(url: str, wanted: dict[str, Any], *, remove: bool) -> None:
    """Change or make the dashboard, known by its title; or delete it."""
    same = [each for each in listed(url, "dashboards") if each.get("displayName") == wanted["displayName"]]
    for number, there in enumerate(same):
        at = f"{url}/{there['name'].rpartition('/')[2]}"
        if remove or number:
            call("DELETE", at)
        else:
            call("PATCH", at, wanted | {"etag": there.get("etag", "")})
    if not same and not remove:
        call("POST", url, wanted)


def main(project: str, name: str, *, remove: bool) -> None:
    """Bring the project to what is defined, or to nothing of it."""
    defined = definitions(project, name)
    logging, monitoring = endpoint("logging"), endpoint("monitoring")
    metrics = {
        f"{logging}v2/projects/{project}/metrics/{urllib.parse.quote(each['name'], safe='')}": each
        for each in defined["metrics"]
    }
    if not remove:  # alerts ask for metrics, and metrics are asked for until the alerts are gone
        for at, metric in metrics.items():
            call("PUT", at, metric)
    wanted = {} if remove else {each["userLabels"]["logmend-alert"]: each for each in defined["policies"]}
    alerts(f"{monitoring}v3/projects/{project}/alertPolicies", name, wanted)
    dashboard(f"{monitoring}v1/projects/{project}/dashboards", defined["dashboard"], remove=remove)
    if remove:
        for at in metrics:
            call("DELETE", at)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], remove=sys.argv[3:] == ["--remove"])
