#!/bin/sh
# The first real run: deploys logmend under a name of its own, makes one small VM whose log carries the line, sees it
# planned, enforces, sees it remediated and silent, replays its message, and destroys all it made, even when it fails.
#
#   deploy/acceptance.sh PROJECT          # says what it would make and cost, and makes nothing
#   deploy/acceptance.sh PROJECT --yes
#
# It leaves acceptance-NAME.md and .json in the current folder: each step's result and seconds. REGION, ZONE, NAME and
# IMAGE (PROJECT/FAMILY) may be set. Whether an image still complains is not known beforehand: with STAND_IN=1 a program
# of ours, under the units' real names, asks the metadata server the same and logs its line in the form of 2022. Needs
# what deploy/gcloud.sh needs, and for the revert the command logmend (LOGMEND=.venv/bin/logmend). The VM gets a public address and lets in Google's
# IAP relay through a firewall rule of its own. Only a VM with the label that this run makes up is ever touched.
set -eu

project=${1:?usage: deploy/acceptance.sh PROJECT [--yes]}
name=${NAME:-lm-accept}
region=${REGION:-us-central1}
zone=${ZONE:-$region-a}
image=${IMAGE:-debian-cloud/debian-12}
here=$(cd "$(dirname "$0")/.." && pwd)
run=$(date -u +%Y%m%d-%H%M%S)
report=acceptance-$name
steps=$(mktemp)
script=$(mktemp)
export REGION="$region" NAME="$name"

cat <<END
In project $project this makes, under the name $name: a function (at most five instances), two topics, two subscriptions,
a log sink, a scheduler job, a Firestore database, three service accounts, custom roles; a VM $name-vm (e2-micro,
$image, zone $zone) and a firewall rule that lets 35.235.240.0/20 in to it on port 22. It takes about an hour and costs
well under one US dollar. APIs that it enables stay enabled. In the end all of it is destroyed.
END
if [ "${2:-}" != --yes ]; then echo "Nothing was made: this was a dry run. Add --yes to do it." && exit; fi

stand_in() {
  cat <<'END'
#!/bin/sh
cat >/usr/local/sbin/gce_workload_cert_refresh <<'PROGRAM'
#!/bin/sh
url=http://169.254.169.254/computeMetadata/v1/instance/gce-workload-certificates/config-status
code=$(curl -s -o /dev/null -w '%{http_code}' -H 'Metadata-Flavor: Google' "$url")
[ "$code" != 200 ] || exit 0
text="$(date '+%Y/%m/%d %H:%M:%S'): Error getting config status, workload certificates may not be configured: HTTP $code"
logger -t gce_workload_cert_refresh "$text"
printf '%s %s gce_workload_cert_refresh[%s]: %s\r\n' "$(date '+%b %e %H:%M:%S')" "$(hostname)" $$ "$text" >/dev/ttyS0
PROGRAM
chmod +x /usr/local/sbin/gce_workload_cert_refresh
printf '[Service]\nType=oneshot\nExecStart=/usr/local/sbin/gce_workload_cert_refresh\n' \
  >/etc/systemd/system/gce-workload-cert-refresh.service
printf '[Timer]\nOnActiveSec=30\nOnUnitActiveSec=10m\n[Install]\nWantedBy=timers.target\n' \
  >/etc/systemd/system/gce-workload-cert-refresh.timer
systemctl daemon-reload
systemctl enable --now gce-workload-cert-refresh.timer
systemctl restart gce-workload-cert-refresh.timer
END
}
gc() { gcloud --quiet --project="$project" "$@"; }
begin() { step=$1 && began=$(date +%s) && echo "== $step" >&2; }
end() { printf '%s\t%s\t%s\n' "$step" "$(($(date +%s) - began))" "$1" >>"$steps"; }

finish() { # whatever happened: destroy, then report
  status=$?
  trap - EXIT INT TERM HUP
  set +e
  [ "$status" = 0 ] || end "failed"
  begin "destroyed"
  left=0
  if gc compute instances describe "$name-vm" --zone="$zone" >/dev/null 2>&1; then
    gc compute instances delete "$name-vm" --zone="$zone" >/dev/null || left=1
  fi
  if gc compute firewall-rules describe "$name-ssh" >/dev/null 2>&1; then
    gc compute firewall-rules delete "$name-ssh" >/dev/null || left=1
  fi
  "$here/deploy/gcloud.sh" --remove "$project" || left=1
  if [ "$left" = 0 ]; then end "ok"; else end "failed: something may be left, run deploy/gcloud.sh --remove"; fi
  [ "$left" = 0 ] || status=1
  RUN=$run IMAGE=$image SOURCE=${source:-unknown} STATUS=$status python3 - "$steps" "$report" <<'END'
import json, os, sys
rows = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
steps = [{"step": step, "seconds": int(seconds), "result": result} for step, seconds, result in rows]
found = {"run": os.environ["RUN"], "image": os.environ["IMAGE"], "line_from": os.environ["SOURCE"],
         "passed": os.environ["STATUS"] == "0", "steps": steps}
with open(f"{sys.argv[2]}.json", "w") as file:
    json.dump(found, file, indent=1)
with open(f"{sys.argv[2]}.md", "w") as file:
    file.write(f"# Acceptance of {found['run']}: {'passed' if found['passed'] else 'failed'}\n\n"
               f"Image {found['image']}; the line comes from {found['line_from']}.\n\n"
               "| step | seconds | result |\n|---|---|---|\n")
    for each in steps:
        file.write(f"| {each['step']} | {each['seconds']} | {each['result']} |\n")
END
  rm -f "$steps" "$script"
  echo "$report.md and $report.json tell how it went" >&2
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# Waits for an outcome of the VM with this result since the run began; what else comes meanwhile is in the report.
outcome() {
  begin "$1"
  for _ in $(seq "${TRIES:-60}"); do
    seen=$(gc logging read "log_id(\"logmend\") jsonPayload.instance.instance_id=\"$id\" timestamp>=\"$since\"" \
      --format='csv[no-heading,separator=" "](jsonPayload.result,jsonPayload.reason,jsonPayload.latency_ms.total)')
    if found=$(echo "$seen" | grep "^$1 "); then
      end "ok: $(echo "$found" | head -n 1) ms in the function"
      return
    fi
    sleep "${PAUSE:-30}"
  done
  echo "no outcome $1 for the VM; seen: ${seen:-none}" >&2
  exit 1
}

since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
settings="LOGMEND_SCOPE_LABELS=logmend-acceptance=$run,LOGMEND_COOLDOWN_PLANNED=1m,LOGMEND_COOLDOWN_REFUSED=1m"
begin "deployed, observing"
SETTINGS=$settings "$here/deploy/gcloud.sh" "$project" observe
end "ok"

begin "VM made"
if [ -n "${STAND_IN:-}" ]; then stand_in >"$script"; else echo '#!/bin/true' >"$script"; fi
gc compute firewall-rules create "$name-ssh" --network=default --allow=tcp:22 --source-ranges=35.235.240.0/20 \
  --target-tags="$name" >/dev/null
gc compute instances create "$name-vm" --zone="$zone" --machine-type=e2-micro --image-project="${image%/*}" \
  --image-family="${image#*/}" --tags="$name" --labels="logmend-acceptance=$run" \
  --metadata=enable-oslogin=TRUE,enable-guest-attributes=TRUE,serial-port-logging-enable=TRUE \
  --metadata-from-file="startup-script=$script" >/dev/null
id=$(gc compute instances describe "$name-vm" --zone="$zone" --format='value(id)')
end "ok: $id"

begin "the line logged"
if [ -n "${STAND_IN:-}" ]; then source="our stand-in"; else source="the image's own program"; fi
line="resource.type=\"gce_instance\" resource.labels.instance_id=\"$id\" \"gce_workload_cert_refresh\""
for _ in $(seq "${TRIES:-60}"); do
  [ -z "$(gc logging read "$line" --limit=1 --format='value(insertId)')" ] || break
  sleep "${PAUSE:-30}"
done
entry=$(gc logging read "$line" --limit=1 --format=json)
[ "$(echo "$entry" | tr -d '[:space:]')" != "[]" ] || { echo "the VM never logged the line: set IMAGE to an older image, or STAND_IN=1" >&2 && exit 1; }
end "ok"

outcome planned
begin "deployed, enforcing"
SETTINGS=$settings "$here/deploy/gcloud.sh" "$project" enforce
end "ok"
outcome remediated

begin "silent"
after=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep "${SILENCE:-1500}" # two periods of the timer and some
more=$(gc logging read "$line timestamp>=\"$after\"" --limit=5 --format='value(timestamp)')
[ -z "$more" ] || { echo "the line came again: $more" >&2 && exit 1; }
end "ok"

if command -v "${LOGMEND:-logmend}" >/dev/null; then
  LOGMEND_STATE=firestore:$project/$name LOGMEND_PROJECT=$project LOGMEND_TOPIC=projects/$project/topics/$name \
    "${LOGMEND:-logmend}" revert "$project/$zone/$id" --runbook workload-cert-refresh --via-function --enforce >&2
  outcome reverted
else
  begin "reverted" && end "skipped: there is no command logmend"
fi

begin "one message replayed"
gc pubsub topics publish "$name" --message="$(echo "$entry" | python3 -c 'import json,sys; print(json.dumps(json.load(sys.stdin)[0]))')" >/dev/null
end "ok"
