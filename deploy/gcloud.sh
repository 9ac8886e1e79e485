#!/bin/sh
# logmend by gcloud alone, for those without Terraform: one project, executor ssh. It makes what deploy/*.tf makes but
# for dashboard, alerts and OS policies. Run it again to change the mode or to deploy a new release.
#
#   deploy/gcloud.sh PROJECT [observe|approve|enforce]
#
# REGION (us-central1) and NAME (logmend) may be set. VMs are reached through IAP; with NETWORK and SUBNET set, from
# that subnet (Direct VPC egress) instead. Needs gcloud, logged in as an owner, and Python 3.11 or newer.
set -eu

project=${1:?usage: deploy/gcloud.sh PROJECT [observe|approve|enforce]}
mode=${2:-observe}
case $mode in observe | approve | enforce) ;; *) echo "no such mode: $mode (observe, approve or enforce)" >&2 && exit 2 ;; esac
region=${REGION:-us-central1}
name=${NAME:-logmend}
route=iap
[ -z "${NETWORK:-}" ] || route=direct
here=$(cd "$(dirname "$0")/.." && pwd)

roles=$(PYTHONPATH=$here/functions python3 -m logmend.permissions "$mode" ssh "$route") # before anything is made

say() { echo "== $*" >&2; }
quiet() { "$@" >/dev/null 2>&1; }
gc() { gcloud --quiet --project="$project" "$@"; }
on_project() { gc projects add-iam-policy-binding "$project" --member="$1" --role="$2" --condition="${3:-None}" >/dev/null; }

say "APIs"
gc services enable artifactregistry.googleapis.com cloudbuild.googleapis.com cloudfunctions.googleapis.com \
  cloudscheduler.googleapis.com compute.googleapis.com firestore.googleapis.com iam.googleapis.com iap.googleapis.com \
  logging.googleapis.com monitoring.googleapis.com oslogin.googleapis.com pubsub.googleapis.com run.googleapis.com \
  storage.googleapis.com
number=$(gc projects describe "$project" --format='value(projectNumber)')

say "service accounts"
for account in "$name" "$name-push" "$name-build"; do
  quiet gc iam service-accounts describe "$account@$project.iam.gserviceaccount.com" ||
    gc iam service-accounts create "$account" --display-name="$account"
done
function=serviceAccount:$name@$project.iam.gserviceaccount.com
push=$name-push@$project.iam.gserviceaccount.com
build=$name-build@$project.iam.gserviceaccount.com
agent=serviceAccount:service-$number@gcp-sa-pubsub.iam.gserviceaccount.com
vm=$number-compute@developer.gserviceaccount.com

say "custom roles for mode $mode"
prefix=$(echo "$name" | tr - _)
echo "$roles" | while read -r role permissions; do
  verb=create
  if quiet gc iam roles describe "${prefix}_$role"; then verb=update; fi
  gc iam roles "$verb" "${prefix}_$role" --title="$name: $role" --permissions="$permissions" --stage=GA >/dev/null
done
role=projects/$project/roles/${prefix}
on_project "$function" "${role}_ledger" "title=ledger-only,expression=resource.name == 'projects/$project/databases/$name'"
on_project "$function" "${role}_recorder"
on_project "$function" "${role}_fleet"
gc iam service-accounts add-iam-policy-binding "$vm" --member="$function" --role="${role}_act_as" >/dev/null
for builder in artifactregistry.writer logging.logWriter storage.objectViewer; do
  on_project "serviceAccount:$build" "roles/$builder"
done

say "topics"
quiet gc pubsub topics describe "$name" ||
  gc pubsub topics create "$name" --message-retention-duration=7d
quiet gc pubsub topics describe "$name-dead-letter" ||
  gc pubsub topics create "$name-dead-letter" --message-retention-duration=31d
quiet gc pubsub subscriptions describe "$name-dead-letter" ||
  gc pubsub subscriptions create "$name-dead-letter" --topic="$name-dead-letter" --ack-deadline=600 \
    --message-retention-duration=31d --expiration-period=never
gc pubsub topics add-iam-policy-binding "$name-dead-letter" --member="$function" --role="${role}_dead_letter" >/dev/null
gc pubsub topics add-iam-policy-binding "$name-dead-letter" --member="$agent" --role=roles/pubsub.publisher >/dev/null

say "ledger"
if ! quiet gc firestore databases describe --database="$name"; then
  gc firestore databases create --database="$name" --location="$region" --type=firestore-native --enable-pitr
  for collection in approvals budgets claims intents samples; do
    gc firestore fields ttls update expire_at --collection-group="$collection" --database="$name" --enable-ttl --async
  done
  for collection in intents subjects; do
    gc firestore indexes composite create --collection-group="$collection" --database="$name" --async \
      --field-config=field-path=queue,order=ascending --field-config=field-path=due,order=ascending
  done
fi

say "function in mode $mode"
gc functions deploy "$name" --gen2 --region="$region" --runtime=python313 --source="$here/functions" \
  --entry-point=remediate --trigger-http --no-allow-unauthenticated --ingress-settings=internal-only \
  --service-account="${function#serviceAccount:}" --build-service-account="projects/$project/serviceAccounts/$build" \
  --timeout=300s --cpu=1 --memory=1Gi --concurrency=40 --max-instances=5 --set-env-vars="$(echo \
    "LOGMEND_MODE=$mode,LOGMEND_EXECUTOR=ssh,LOGMEND_STATE=firestore:$project/$name,LOGMEND_OUTCOMES=cloud," \
    "LOGMEND_PROJECT=$project,LOGMEND_SCOPE_PROJECTS=$project,LOGMEND_FUNCTION_TIMEOUT=300s,LOGMEND_LEASE=600s," \
    "LOGMEND_SSH_ROUTE=$route,LOGMEND_SERVICE_ACCOUNT=${function#serviceAccount:}," \
    "LOGMEND_DEAD_LETTER_TOPIC=projects/$project/topics/$name-dead-letter" | tr -d ' ')"
uri=$(gc functions describe "$name" --gen2 --region="$region" --format='value(serviceConfig.uri)')
if [ "$route" = direct ]; then
  gc run services update "$name" --region="$region" --network="$NETWORK" --subnet="$SUBNET" --vpc-egress=private-ranges-only
fi
gc run services add-iam-policy-binding "$name" --region="$region" --member="serviceAccount:$push" --role=roles/run.invoker >/dev/null

say "push subscription"
gc iam service-accounts add-iam-policy-binding "$push" --member="$agent" --role=roles/iam.serviceAccountOpenIdTokenCreator >/dev/null
quiet gc pubsub subscriptions describe "$name-push" ||
  gc pubsub subscriptions create "$name-push" --topic="$name" --ack-deadline=600 --expiration-period=never \
    --push-endpoint="$uri" --push-auth-service-account="$push" --push-auth-token-audience="$uri" \
    --min-retry-delay=10s --max-retry-delay=600s --dead-letter-topic="$name-dead-letter" --max-delivery-attempts=10
gc pubsub subscriptions add-iam-policy-binding "$name-push" --member="$agent" --role=roles/pubsub.subscriber >/dev/null

say "log sink"
verb=create
if quiet gc logging sinks describe "$name"; then verb=update; fi
gc logging sinks "$verb" "$name" "pubsub.googleapis.com/projects/$project/topics/$name" --log-filter="$(cat "$here/sink/filter.lql")"
writer=$(gc logging sinks describe "$name" --format='value(writerIdentity)')
gc pubsub topics add-iam-policy-binding "$name" --member="$writer" --role=roles/pubsub.publisher >/dev/null

say "tick"
quiet gc scheduler jobs describe "$name-tick" --location="$region" ||
  gc scheduler jobs create pubsub "$name-tick" --location="$region" --schedule='*/5 * * * *' --time-zone=Etc/UTC \
    --topic="$name" --message-body='{"logmend":"tick"}'

say "done: LOGMEND_STATE=firestore:$project/$name; logmend doctor checks the rest"
