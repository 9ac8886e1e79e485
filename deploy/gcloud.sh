#!/bin/sh
# logmend by gcloud alone, for those without Terraform: one project, executor ssh. It makes what deploy/*.tf makes but
# for OS policies, owners, and other thresholds of alerts. Each step looks at what is there and makes the rest, so that it
# may be run again at any time: after it stopped half-way, to change the mode, to deploy a new release. Without a mode it
# keeps the one that is deployed, and begins with observe. So it does with SETTINGS, WINDOWS, BLACKOUTS, OUTCOME_TOPIC,
# CONFIRM_SILENCE, KNOWN_HOSTS_SECRET, KEY_SECRET and SSH_USER: unset, what is deployed stays; set but empty, it goes.
#
#   deploy/gcloud.sh PROJECT [observe|approve|enforce]
#   deploy/gcloud.sh --remove PROJECT          # takes away what it made, the ledger included
#
# REGION (us-central1) and NAME (logmend) may be set. VMs are reached through IAP; with NETWORK and SUBNET set, from
# that subnet (Direct VPC egress) instead. SETTINGS takes further settings, LOGMEND_X=1,LOGMEND_Y=2; a value may be a
# list. KNOWN_HOSTS_SECRET names a secret in Secret Manager that holds a known_hosts file; KEY_SECRET one that holds
# the private key of SSH_USER, for fleets without OS Login. WINDOWS and BLACKOUTS say when VMs may be changed
# (docs/settings.md). With CONFIRM_SILENCE=true the function may read the VMs' logs, to see after a fix whether the
# line stopped. With OUTCOME_TOPIC=true every final outcome is published to the topic NAME-outcomes too. Alerts go to
# ALERT_CHANNELS (projects/P/notificationChannels/ID,…) and link to GUIDE_URL, where your people read
# docs/operations.md; ALERTS=false leaves out metrics, alerts and dashboard. LOGMEND_RUNBOOKS names a file that says
# which runbooks are on, and how (docs/runbooks.md): source, sink and roles then follow it, by the command `logmend`;
# give it each time, as NETWORK and SUBNET. Needs gcloud, logged in as an owner, and Python 3.11 or newer.
set -eu

usage="usage: deploy/gcloud.sh PROJECT [observe|approve|enforce], or --remove PROJECT"
remove=
if [ "${1:-}" = --remove ]; then remove=1 && shift; fi
project=${1:?$usage}
mode=${2:-}
case $mode in '' | observe | approve | enforce) ;; *) echo "no such mode: $mode (observe, approve or enforce)" >&2 && exit 2 ;; esac
region=${REGION:-us-central1}
name=${NAME:-logmend}
route=iap
[ -z "${NETWORK:-}" ] || route=direct
[ "${KEY_SECRET:+set}" = "${SSH_USER:+set}" ] || { echo "KEY_SECRET and SSH_USER go together" >&2 && exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
prefix=$(echo "$name" | tr - _)
push=$name-push@$project.iam.gserviceaccount.com
build=$name-build@$project.iam.gserviceaccount.com
function=serviceAccount:$name@$project.iam.gserviceaccount.com
role=projects/$project/roles/$prefix

say() { echo "== $*" >&2; }
gc() { gcloud --quiet --project="$project" "$@"; }

# There, or not there; anything else that gcloud says (a missing permission, say) ends the script in gcloud's words.
there() {
  if problem=$(gc "$@" 2>&1 >/dev/null); then return 0; fi
  case $problem in
    *NOT_FOUND* | *"status=[404]"* | *"not found"* | *"does not exist"* | *"Cannot find"* | *"could not be found"*) return 1 ;;
    *) echo "$problem" >&2 && exit 1 ;;
  esac
}
# What was just made is not there for all of Google at once: a grant to a new account fails for up to some minutes.
patiently() {
  for _ in 1 2 3 4 5 6 7; do
    if problem=$("$@" 2>&1 >/dev/null); then return 0; fi
    case $problem in
      *"does not exist"* | *"has not been used"* | *NOT_FOUND*) sleep "${PAUSE:-20}" ;;
      *) break ;;
    esac
  done
  echo "$problem" >&2 && exit 1
}
on_project() { patiently gc projects add-iam-policy-binding "$project" --member="$1" --role="$2" --condition="${3:-None}"; }

if [ -n "$remove" ]; then
  gone() { # KIND… NAME: deletes what is there
    kind=$1 && shift
    # shellcheck disable=SC2086 # the kind is words of a command
    if there $kind describe "$@"; then say "$kind $1" && gc $kind delete "$@" >/dev/null; fi
  }
  if [ "${ALERTS:-true}" = true ]; then
    say "metrics, alerts, dashboard"
    ACCESS_TOKEN=$(gcloud auth print-access-token) python3 "$here/deploy/monitoring.py" "$project" "$name" --remove
  fi
  gone "scheduler jobs" "$name-tick" --location="$region"
  gone "logging sinks" "$name"
  for each in "$name-push" "$name-dead-letter"; do gone "pubsub subscriptions" "$each"; done
  for each in "$name" "$name-dead-letter" "$name-outcomes"; do gone "pubsub topics" "$each"; done
  if there functions describe "$name" --gen2 --region="$region"; then
    say "functions $name" && gc functions delete "$name" --gen2 --region="$region" >/dev/null
  fi
  if there firestore databases describe --database="$name"; then
    say "ledger" && gc firestore databases delete --database="$name" >/dev/null
  fi
  number=$(gc projects describe "$project" --format='value(projectNumber)')
  bindings=$(gc projects get-iam-policy "$project" --flatten=bindings --format='value(bindings.role)' \
    --filter="bindings.members:($function OR serviceAccount:$build)")
  for each in $bindings; do
    for member in "$function" "serviceAccount:$build"; do
      gc projects remove-iam-policy-binding "$project" --member="$member" --role="$each" --all >/dev/null 2>&1 || true
    done
  done
  gc iam service-accounts remove-iam-policy-binding "$number-compute@developer.gserviceaccount.com" \
    --member="$function" --role="${role}_act_as" >/dev/null 2>&1 || true
  names=$(PYTHONPATH=$here/functions python3 -m logmend.permissions enforce ssh iap silence | cut -d ' ' -f 1 | paste -sd '|' -)
  for each in $(gc iam roles list --format='value(name.basename())' --filter="name~\"/${prefix}_($names)\$\""); do
    say "role $each" && gc iam roles delete "$each" >/dev/null
  done
  for each in "$name" "$name-push" "$name-build"; do
    gone "iam service-accounts" "$each@$project.iam.gserviceaccount.com"
  done
  say "removed; left are enabled APIs, log entries, the build's image repository, and logmend-* labels on VMs"
  exit
fi

silence=${CONFIRM_SILENCE:-false}
case $silence in true | false) ;; *) echo "CONFIRM_SILENCE=$silence: true or false" >&2 && exit 2 ;; esac

roles() {
  listens=
  [ "$silence" = false ] || listens=silence
  if [ -n "${LOGMEND_RUNBOOKS:-}" ]; then
    LOGMEND_MODE=$1 LOGMEND_EXECUTOR=ssh LOGMEND_SSH_ROUTE=$route LOGMEND_CONFIRM_SILENCE=$silence logmend runbook permissions
  else
    PYTHONPATH=$here/functions python3 -m logmend.permissions "$1" ssh "$route" ${listens:+"$listens"}
  fi
}
source=$here/functions filter=$here/sink/filter.lql runbooks=
if [ -n "${LOGMEND_RUNBOOKS:-}" ]; then
  packed=$(mktemp -d)
  trap 'rm -rf "$packed"' EXIT
  source=$packed/source filter=$packed/filter.lql runbooks=LOGMEND_RUNBOOKS=runbooks.yaml,
  cp -R "$here/functions" "$source"
  logmend runbook pack "$source" >&2
  logmend filter show >"$filter"
fi
roles observe >/dev/null # or it ends before anything is made

say "APIs"
gc services enable artifactregistry.googleapis.com cloudbuild.googleapis.com cloudfunctions.googleapis.com \
  cloudresourcemanager.googleapis.com cloudscheduler.googleapis.com compute.googleapis.com firestore.googleapis.com \
  iam.googleapis.com iap.googleapis.com logging.googleapis.com monitoring.googleapis.com oslogin.googleapis.com \
  pubsub.googleapis.com run.googleapis.com storage.googleapis.com
number=$(gc projects describe "$project" --format='value(projectNumber)')
agent=serviceAccount:service-$number@gcp-sa-pubsub.iam.gserviceaccount.com
vm=$number-compute@developer.gserviceaccount.com

deployed=
if there functions describe "$name" --gen2 --region="$region"; then
  deployed=$(gc functions describe "$name" --gen2 --region="$region" \
    --format='flattened[no-pad](serviceConfig.environmentVariables)')
fi
kept() { printf '%s\n' "$deployed" | sed -n "s/^serviceConfig\.environmentVariables\.LOGMEND_$1: *//p"; }
if [ -z "${LOGMEND_RUNBOOKS+set}" ] && [ -n "$(kept RUNBOOKS)" ]; then
  echo "a file of runbooks is deployed: give it again as LOGMEND_RUNBOOKS, or LOGMEND_RUNBOOKS= to deploy without it" >&2
  exit 2
fi
mode=${mode:-$(kept MODE)}
mode=${mode:-observe}
silence=${CONFIRM_SILENCE-$(kept CONFIRM_SILENCE)}
silence=${silence:-false}
windows=${WINDOWS-$(kept WINDOWS)}
blackouts=${BLACKOUTS-$(kept BLACKOUTS)}
topic=${OUTCOME_TOPIC-$(kept OUTCOME_TOPIC)}
[ "$topic" != "projects/$project/topics/$name-outcomes" ] || topic=true
hosts_secret=${KNOWN_HOSTS_SECRET-$(kept SSH_HOST_KEYS | sed -n 's|^known-hosts:/secrets/\(.*\)/value$|\1|p')}
key_secret=${KEY_SECRET-$(kept SSH_KEY | sed -n 's|^/secrets/\(.*\)/value$|\1|p')}
ssh_user=${SSH_USER-$(kept SSH_USER)}
roles=$(roles "$mode")

say "ledger" # first, since its indexes take minutes
there firestore databases describe --database="$name" ||
  gc firestore databases create --database="$name" --location="$region" --type=firestore-native --enable-pitr >/dev/null
for collection in acts approvals claims intents places repeats samples; do
  gc firestore fields ttls update expire_at --collection-group="$collection" --database="$name" --enable-ttl --async >/dev/null
  gc firestore indexes fields update expire_at --collection-group="$collection" --database="$name" --disable-indexes --async >/dev/null
done
# Nothing is queried by one field; an index of a rising one would make every write of a fleet hit its end.
gc firestore indexes fields update '*' --collection-group=__default__ --database="$name" --disable-indexes --async >/dev/null
indexes=$(gc firestore indexes composite list --database="$name" --format=json)
for collection in acts approvals intents repeats subjects; do
  case $indexes in
    *"/collectionGroups/$collection/"*) ;;
    *) gc firestore indexes composite create --collection-group="$collection" --database="$name" --async \
      --field-config=field-path=queue,order=ascending --field-config=field-path=due,order=ascending >/dev/null ;;
  esac
done

say "service accounts"
for account in "$name" "$name-push" "$name-build"; do
  there iam service-accounts describe "$account@$project.iam.gserviceaccount.com" ||
    gc iam service-accounts create "$account" --display-name="$account" >/dev/null
done

say "custom roles for mode $mode"
echo "$roles" | while read -r each permissions; do
  verb=create
  if there iam roles describe "${prefix}_$each"; then
    verb=update
    deleted=$(gc iam roles describe "${prefix}_$each" --format='value(deleted)')
    [ "$deleted" != True ] || gc iam roles undelete "${prefix}_$each" >/dev/null
  fi
  gc iam roles "$verb" "${prefix}_$each" --title="$name: $each" --permissions="$permissions" --stage=GA >/dev/null
done
on_project "$function" "${role}_ledger" "title=ledger-only,expression=resource.name == 'projects/$project/databases/$name'"
on_project "$function" "${role}_recorder"
on_project "$function" "${role}_fleet"
patiently gc iam service-accounts add-iam-policy-binding "$vm" --member="$function" --role="${role}_act_as"
for builder in artifactregistry.writer logging.logWriter storage.objectViewer; do
  on_project "serviceAccount:$build" "roles/$builder"
done

mounts='' ways=LOGMEND_SSH_ROUTE=$route
for secret in $hosts_secret $key_secret; do
  [ -n "$mounts" ] || gc services enable secretmanager.googleapis.com
  gc secrets add-iam-policy-binding "$secret" --member="$function" --role=roles/secretmanager.secretAccessor >/dev/null
  mounts=$mounts,/secrets/$secret/value=$secret:latest
done
secrets=--clear-secrets
[ -z "$mounts" ] || secrets=--set-secrets=${mounts#,}
[ -z "$hosts_secret" ] || ways=$ways,LOGMEND_SSH_HOST_KEYS=known-hosts:/secrets/$hosts_secret/value
[ -z "$key_secret" ] || ways=$ways,LOGMEND_SSH_KEY=/secrets/$key_secret/value,LOGMEND_SSH_USER=$ssh_user

say "topics"
there pubsub topics describe "$name" ||
  gc pubsub topics create "$name" --message-retention-duration=7d >/dev/null
there pubsub topics describe "$name-dead-letter" ||
  gc pubsub topics create "$name-dead-letter" --message-retention-duration=31d >/dev/null
there pubsub subscriptions describe "$name-dead-letter" ||
  gc pubsub subscriptions create "$name-dead-letter" --topic="$name-dead-letter" --ack-deadline=600 \
    --message-retention-duration=31d --expiration-period=never >/dev/null
patiently gc pubsub topics add-iam-policy-binding "$name-dead-letter" --member="$function" --role="${role}_dead_letter"
patiently gc pubsub topics add-iam-policy-binding "$name-dead-letter" --member="$agent" --role=roles/pubsub.publisher
told=
if [ "$topic" = true ]; then
  there pubsub topics describe "$name-outcomes" ||
    gc pubsub topics create "$name-outcomes" --message-retention-duration=7d >/dev/null
  patiently gc pubsub topics add-iam-policy-binding "$name-outcomes" --member="$function" --role="${role}_dead_letter"
  told=,LOGMEND_OUTCOME_TOPIC=projects/$project/topics/$name-outcomes
fi

say "the ledger's indexes"
for _ in $(seq 60); do
  [ -n "$(gc firestore indexes composite list --database="$name" --filter='state=CREATING' --format='value(name)')" ] || break
  sleep "${PAUSE:-20}"
done

say "function in mode $mode"
environment=$(echo \
  "LOGMEND_MODE=$mode,LOGMEND_EXECUTOR=ssh,LOGMEND_STATE=firestore:$project/$name,LOGMEND_OUTCOMES=cloud," \
  "${runbooks}LOGMEND_PROJECT=$project,LOGMEND_SCOPE_PROJECTS=$project,LOGMEND_FUNCTION_TIMEOUT=300s,LOGMEND_LEASE=600s," \
  "LOGMEND_CONFIRM_SILENCE=$silence,$ways,LOGMEND_SERVICE_ACCOUNT=${function#serviceAccount:}," \
  "LOGMEND_DEAD_LETTER_TOPIC=projects/$project/topics/$name-dead-letter$told" | tr -d ' ')
settings=$(echo "${SETTINGS:-}" | tr -d ' ' | sed 's/,LOGMEND_/|LOGMEND_/g')
case ${windows:+,}${blackouts:+,}$settings in
  *,*) # values with commas and spaces of their own (gcloud topic escaping)
    environment="^|^$(echo "$environment" | tr , '|')${settings:+|$settings}"
    environment="$environment${windows:+|LOGMEND_WINDOWS=$windows}${blackouts:+|LOGMEND_BLACKOUTS=$blackouts}"
    ;;
  *) environment=$environment${settings:+,$(echo "$settings" | tr '|' ,)} ;;
esac
how=set without=
if [ -z "${SETTINGS+set}" ]; then # whatever else is deployed stays
  how=update
  [ -n "$runbooks" ] || without=$without,LOGMEND_RUNBOOKS
  [ -n "$windows" ] || without=$without,LOGMEND_WINDOWS
  [ -n "$blackouts" ] || without=$without,LOGMEND_BLACKOUTS
  [ -n "$told" ] || [ -z "${OUTCOME_TOPIC+set}" ] || without=$without,LOGMEND_OUTCOME_TOPIC
  [ -n "$hosts_secret" ] || [ -z "${KNOWN_HOSTS_SECRET+set}" ] || without=$without,LOGMEND_SSH_HOST_KEYS
  [ -n "$key_secret" ] || [ -z "${KEY_SECRET+set}" ] || without=$without,LOGMEND_SSH_KEY,LOGMEND_SSH_USER
fi
gc functions deploy "$name" --gen2 --region="$region" --runtime=python313 --source="$source" \
  --entry-point=remediate --trigger-http --no-allow-unauthenticated --ingress-settings=internal-only \
  --service-account="${function#serviceAccount:}" --build-service-account="projects/$project/serviceAccounts/$build" \
  --timeout=300s --cpu=1 --memory=1Gi --concurrency=80 --max-instances=5 "--$how-env-vars=$environment" \
  ${without:+"--remove-env-vars=${without#,}"} "$secrets"
uri=$(gc functions describe "$name" --gen2 --region="$region" --format='value(serviceConfig.uri)')
if [ "$route" = direct ]; then
  gc run services update "$name" --region="$region" --network="$NETWORK" --subnet="$SUBNET" --vpc-egress=private-ranges-only
fi
patiently gc run services add-iam-policy-binding "$name" --region="$region" --member="serviceAccount:$push" --role=roles/run.invoker

say "push subscription"
patiently gc iam service-accounts add-iam-policy-binding "$push" --member="$agent" --role=roles/iam.serviceAccountOpenIdTokenCreator
there pubsub subscriptions describe "$name-push" ||
  gc pubsub subscriptions create "$name-push" --topic="$name" --ack-deadline=600 --expiration-period=never \
    --push-endpoint="$uri" --push-auth-service-account="$push" --push-auth-token-audience="$uri" \
    --min-retry-delay=10s --max-retry-delay=600s --dead-letter-topic="$name-dead-letter" --max-delivery-attempts=10 >/dev/null
gc pubsub subscriptions modify-push-config "$name-push" --push-endpoint="$uri" \
  --push-auth-service-account="$push" --push-auth-token-audience="$uri" >/dev/null # the function may have been made anew
patiently gc pubsub subscriptions add-iam-policy-binding "$name-push" --member="$agent" --role=roles/pubsub.subscriber

say "log sink"
verb=create
if there logging sinks describe "$name"; then verb=update; fi
gc logging sinks "$verb" "$name" "pubsub.googleapis.com/projects/$project/topics/$name" --log-filter="$(cat "$filter")" >/dev/null
writer=$(gc logging sinks describe "$name" --format='value(writerIdentity)')
patiently gc pubsub topics add-iam-policy-binding "$name" --member="$writer" --role=roles/pubsub.publisher

say "tick"
there scheduler jobs describe "$name-tick" --location="$region" ||
  gc scheduler jobs create pubsub "$name-tick" --location="$region" --schedule='*/5 * * * *' --time-zone=Etc/UTC \
    --topic="$name" --message-body='{"logmend":"tick"}' >/dev/null

if [ "${ALERTS:-true}" = true ]; then
  say "metrics, alerts, dashboard" # the alerts wait until their metrics are there, up to ten minutes
  ACCESS_TOKEN=$(gcloud auth print-access-token) python3 "$here/deploy/monitoring.py" "$project" "$name"
fi

say "done: LOGMEND_STATE=firestore:$project/$name; logmend doctor checks the rest"
