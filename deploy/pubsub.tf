module "sink" {
  source = "../sink"

  project_id             = time_sleep.apis.triggers["project"] # once they are enabled
  name                   = var.name
  projects               = local.wide ? [] : local.projects
  folder_id              = var.folder_id
  organization_id        = var.folder_id == null ? var.organization_id : null
  message_retention_days = var.message_retention_days
  labels                 = var.labels
  filter                 = local.filter
}

# Our own push subscription, not the one of an Eventarc trigger: only ours can have its ack deadline, retry policy
# and dead letter set.
resource "google_pubsub_subscription" "push" {
  project                    = var.project_id
  name                       = "${var.name}-push"
  topic                      = module.sink.topic
  labels                     = var.labels
  ack_deadline_seconds       = local.ack_deadline_seconds
  message_retention_duration = "604800s" # a week to find out why nothing is acknowledged

  push_config {
    push_endpoint = google_cloudfunctions2_function.remediate.service_config[0].uri

    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = google_cloudfunctions2_function.remediate.service_config[0].uri
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  # Redelivery is for broken infrastructure, not a queue: ten tries are about forty minutes.
  dead_letter_policy {
    dead_letter_topic     = module.sink.dead_letter_topic
    max_delivery_attempts = 10
  }

  expiration_policy {
    ttl = ""
  }

  depends_on = [google_cloud_run_service_iam_member.push, google_service_account_iam_member.push_token]
}

# Without this Pub/Sub never moves a message to the dead letter, and tries for ever.
resource "google_pubsub_subscription_iam_member" "dead_letter_service_agent" {
  project      = var.project_id
  subscription = google_pubsub_subscription.push.name
  role         = "roles/pubsub.subscriber"
  member       = local.service_agent["gcp-sa-pubsub"]
}

# Every final outcome, for tickets and chat (docs/outcome-topic.md). Who subscribes to it is the caller's business; what is
# retained is there for a later subscription too (cloud.google.com/pubsub/docs/replay-overview).
resource "google_pubsub_topic" "outcomes" {
  # checkov:skip=CKV_GCP_83: messages are outcomes, which hold no text of a log entry, encrypted at rest by Google like their log
  count = var.outcome_topic ? 1 : 0

  project                    = var.project_id
  name                       = "${var.name}-outcomes"
  labels                     = var.labels
  message_retention_duration = "${var.message_retention_days * 86400}s"

  depends_on = [time_sleep.apis]
}
