#!/bin/sh
# The first real run: deploys logmend under a name of its own, makes one small VM whose log carries the line, sees it
# planned, enforces, sees it remediated and silent, reverts, replays its message, and destroys all it made, even when a
# step fails.
#
#   deploy/acceptance.sh PROJECT            # says what it would make and cost, and asks Google nothing
#   deploy/acceptance.sh PROJECT --yes
#   RUN=… deploy/acceptance.sh PROJECT --clean      # destroys what a run that was killed has left
#
# It leaves lm-accept-RUN.md and .json in the current folder: each step's result, seconds and latencies. REGION and ZONE
# may be set, and IMAGE (PROJECT/IMAGE) to one of your own. Else it takes an image of Debian from the time of the line, if
# one can still be had. If the VM's own program does not complain, a program of ours takes its place under the units' real
# names: it asks the metadata server the same and logs the line in the form of 2022. The report says which it was.
# Needs what deploy/gcloud.sh needs, the network "default" and, for the revert, the command logmend (on the path, in
# .venv, or LOGMEND=…) with application default credentials. Only the VM with this run's own label is ever touched.
set -eu
export ALERTS=false # nobody is to be told, and alerts would wait ten minutes for their metrics

usage="usage: deploy/acceptance.sh PROJECT [--yes|--clean]"
project=${1:?$usage}
case ${2:-} in '' | --yes) ;; --clean) : "${RUN:?which run: RUN=MMDD-HHMMSS}" ;; *) echo "$usage" >&2 && exit 2 ;; esac
run=${RUN:-$(date -u +%m%d-%H%M%S)}
name=lm-accept-$run
region=${REGION:-us-central1}
zone=${ZONE:-$region-a}
here=$(cd "$(dirname "$0")/.." && pwd)
logmend=${LOGMEND:-$(command -v logmend || echo "$here/.venv/bin/logmend")}
export REGION="$region" NAME="$name"
gc() { gcloud --quiet --project="$project" "$@"; }

gone() { # KIND… NAME: deletes it; that it is not there is fine
  if problem=$(gc "$@" 2>&1 >/dev/null); then return; fi
  case $problem in *NOT_FOUND* | *"not found"*) return ;; esac
  echo "$problem" >&2
  return 1
}
destroy() { # each part whatever became of the others, and all once more for what was still being made
  for _ in 1 2 3; do
    left=
    gone compute instances delete "$name-vm" --zone="$zone" || left=1
    gone compute firewall-rules delete "$name-ssh" || left=1
    "$here/deploy/gcloud.sh" --remove "$project" || left=1
    [ "$left" ] || return 0
    sleep "${PAUSE:-30}"
  done
  echo "something may be left; later: RUN=$run deploy/acceptance.sh $project --clean" >&2
  return 1
}
if [ "${2:-}" = --clean ]; then destroy; exit; fi

cat <<END
In project $project this makes, under the name $name: a function (at most five instances), two topics, two
subscriptions, a log sink, a scheduler job, a Firestore database, three service accounts, custom roles; a VM $name-vm
(e2-micro, no public address, zone $zone) and a firewall rule that lets 35.235.240.0/20 in to it on port 22. It takes
about 75 minutes and costs well under one US dollar. APIs that it enables stay enabled. In the end all of it is destroyed.
END
[ -x "$logmend" ] || echo "There is no command logmend: the revert will be left out."
if [ "${2:-}" != --yes ]; then echo "Nothing was made: this was a dry run. Add --yes to do it." && exit; fi

work=$(mktemp -d)
began=$(date +%s) step=start source=unknown image=none
cat >"$work/pick.py" <<'END'
# The first outcome with the result that is wanted, of what `gcloud logging read` printed: its verdict and, in seconds,
# how long each part of its way took. Exit status 1: none yet.
import datetime, json, sys
at = datetime.datetime.fromisoformat
for entry in reversed(json.load(sys.stdin)):
    told = entry["jsonPayload"]
    if told["result"] != sys.argv[1] and (sys.argv[1] != "any" or told["result"] == "deferred"):
        continue
    took = {each: ms / 1000 for each, ms in told["latency_ms"].items() if ms is not None}
    if {"queue", "total"} <= took.keys():
        event = (told.get("source") or {}).get("timestamp")
        published = at(told["timestamp"]).timestamp() - took["total"] - took["queue"]
        took = ({"event to Pub/Sub": published - at(event).timestamp()} if event else {}) | took
    took["record"] = (at(entry["receiveTimestamp"]) - at(entry["timestamp"])).total_seconds()
    names = {"queue": "Pub/Sub to function", "lookup": "look-up", "act": "on the VM", "total": "in the function"}
    verdict = told["result"] + (f": {told['reason']}" if told["reason"] else "")
    print(verdict, json.dumps({names.get(each, each): round(took[each], 3) for each in took}), sep="\t")
    sys.exit()
sys.exit(1)
END
cat >"$work/report.py" <<'END'
import json, os, sys
rows = [line.rstrip("\n").split("\t") for line in open(sys.argv[1])]
steps = [{"step": step, "seconds": int(seconds), "result": result, "latency_s": json.loads(latency or "{}")}
         for step, seconds, result, latency in rows]
found = {"run": os.environ["RUN"], "image": os.environ["IMAGE"], "line_from": os.environ["SOURCE"],
         "passed": os.environ["STATUS"] == "0", "steps": steps}
with open(f"{sys.argv[2]}.json", "w") as file:
    json.dump(found, file, indent=1)
with open(f"{sys.argv[2]}.md", "w") as file:
    file.write(f"# Acceptance run {found['run']}: {'passed' if found['passed'] else 'failed'}\n\n"
               f"Image {found['image']}; the line comes from {found['line_from']}.\n\n"
               "| step | seconds | result | latency in seconds |\n|---|---|---|---|\n")
    for each in steps:
        latency = ", ".join(f"{name} {value:g}" for name, value in each["latency_s"].items())
        file.write(f"| {each['step']} | {each['seconds']} | {each['result']} | {latency} |\n")
END

# What the VM starts with: says in a guest attribute whose line it is.
cat >"$work/startup.sh" <<'END'
#!/bin/sh
unit=gce-workload-cert-refresh
complained() { journalctl -qb -t gce_workload_cert_refresh | grep -qe 'Error getting config status' -e 'No workload identities found'; }
source="the image's own program"
timeout 60 systemctl start $unit.service
for _ in 1 2 3 4 5; do complained || sleep 1; done
if ! complained; then
  source='our stand-in'
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
  # Where a package has them: logmend leaves a unit alone that disabling would delete.
  printf '[Service]\nType=oneshot\nExecStart=/usr/local/sbin/gce_workload_cert_refresh\n' >/usr/lib/systemd/system/$unit.service
  printf '[Timer]\nOnActiveSec=30\nOnUnitActiveSec=10m\n[Install]\nWantedBy=timers.target\n' >/usr/lib/systemd/system/$unit.timer
  systemctl daemon-reload
  systemctl enable $unit.timer
  systemctl restart $unit.timer
fi
curl -sS -X PUT -H Metadata-Flavor:Google -d "$source" \
  http://169.254.169.254/computeMetadata/v1/instance/guest-attributes/logmend/line-from
END

begin() { step=$1 && began=$(date +%s) && echo "== $step" >&2; }
end() { printf '%s\t%s\t%s\t%s\n' "$step" "$(($(date +%s) - began))" "$1" "${2:-}" >>"$work/steps"; }
finish() { # whatever happened: destroy, then report
  status=$?
  trap - EXIT
  trap 'echo "still destroying" >&2' INT TERM HUP
  set +e
  [ "$status" = 0 ] || end "failed"
  begin destroyed
  if destroy; then end ok; else end "failed" && status=1; fi
  RUN=$run IMAGE=$image SOURCE=$source STATUS=$status python3 "$work/report.py" "$work/steps" "$name"
  rm -rf "$work"
  echo "$name.md and $name.json tell how it went" >&2
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
deployed() { # MODE
  begin "deployed in mode $1"
  # To another logmend in this project the VM is exempt, by the usual label.
  settings=LOGMEND_SCOPE_LABELS=logmend-acceptance=$run,LOGMEND_EXEMPT_LABEL=logmend-acceptance=off
  SETTINGS=$settings,LOGMEND_COOLDOWN_PLANNED=1m,LOGMEND_COOLDOWN_REFUSED=1m "$here/deploy/gcloud.sh" "$project" "$1"
  scope=$(gc functions describe "$name" --gen2 --region="$region" \
    --format='value(serviceConfig.environmentVariables.LOGMEND_SCOPE_LABELS)')
  [ "$scope" = "logmend-acceptance=$run" ] || { echo "the function's scope is not this run's VM alone: $scope" >&2 && exit 1; }
  end ok
}
vm() { # IMAGE-FLAGS…
  gc compute instances create "$name-vm" --zone="$zone" --machine-type=e2-micro "$@" --no-address --tags="$name" \
    --labels="logmend=off,logmend-acceptance=$run" \
    --metadata=enable-oslogin=TRUE,enable-guest-attributes=TRUE,serial-port-logging-enable=TRUE \
    --metadata-from-file="startup-script=$work/startup.sh" >/dev/null
}
outcome() { # RESULT|any STEP FILTER: waits for such an outcome
  begin "$2"
  for _ in $(seq "${TRIES:-60}"); do
    seen=$(gc logging read "log_id(\"logmend\") timestamp>=\"$since\" $3" --format=json)
    if found=$(printf %s "$seen" | python3 "$work/pick.py" "$1"); then
      end "ok: ${found%%	*}" "${found#*	}"
      return
    fi
    sleep "${PAUSE:-30}"
  done
  echo "$2: no such outcome came; seen: $seen" >&2
  exit 1
}

deployed observe

begin "VM made"
gc compute firewall-rules create "$name-ssh" --network=default --allow=tcp:22 --source-ranges=35.235.240.0/20 \
  --target-tags="$name" >/dev/null
image=${IMAGE:-}
if [ "$image" ]; then
  vm --image-project="${image%/*}" --image="${image#*/}"
else
  old=$(gcloud --quiet compute images list --project=debian-cloud --no-standard-images --show-deprecated --limit=1 \
    --filter='family=debian-11 AND creationTimestamp>=2022-12-01 AND creationTimestamp<2023-09-01' \
    --sort-by=~creationTimestamp --format='value(name)')
  image=debian-cloud/$old
  if ! { [ "$old" ] && vm --image-project=debian-cloud --image="$old"; }; then # none, or obsolete by now
    image=debian-cloud/debian-12
    vm --image-project=debian-cloud --image-family=debian-12
  fi
fi
id=$(gc compute instances describe "$name-vm" --zone="$zone" --format='value(id)')
end "ok: instance $id of $image"

begin "the line logged"
line="resource.type=\"gce_instance\" resource.labels.instance_id=\"$id\"
(\"Error getting config status\" OR \"No workload identities found\")"
for _ in $(seq "${TRIES:-60}"); do
  entry=$(gc logging read "$line" --limit=1 --format=json)
  [ "$entry" = "[]" ] || break
  sleep "${PAUSE:-30}"
done
[ "$entry" != "[]" ] || { echo "the VM never logged the line" >&2 && exit 1; }
source=$(gc compute instances get-guest-attributes "$name-vm" --zone="$zone" --query-path=logmend/line-from --format='value(value)')
end "ok: by ${source:=an unknown program}"

of_vm="jsonPayload.instance.instance_id=\"$id\""
outcome planned planned "$of_vm"
deployed enforce
outcome remediated remediated "$of_vm"

begin silent
after=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep "${SILENCE:-1500}" # two periods of the timer and some
more=$(gc logging read "$line timestamp>=\"$after\"" --limit=5 --format='value(timestamp)')
[ -z "$more" ] || { echo "the line came again: $more" >&2 && exit 1; }
end ok

if [ -x "$logmend" ]; then
  LOGMEND_STATE=firestore:$project/$name LOGMEND_PROJECT=$project LOGMEND_TOPIC=projects/$project/topics/$name \
    "$logmend" revert "$project/$zone/$id" --runbook workload-cert-refresh --via-function --enforce --yes >&2
  outcome reverted reverted "$of_vm"
else
  begin reverted && end "left out: there is no command logmend"
fi

text=$(printf %s "$entry" | python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)[0]))')
message=$(gc pubsub topics publish "$name" --message="$text" --format='value(messageIds[0])')
outcome any "one message replayed" "jsonPayload.message_id=\"$message\""
