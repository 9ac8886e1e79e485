# Two kinds of message end here: those that Pub/Sub gave up delivering, and copies of those that the function
# could not decode. `logmend replay` reads them from the pull subscription.

resource "google_pubsub_topic" "dead_letter" {
  # checkov:skip=CKV_GCP_83: messages are copies of log entries, encrypted at rest by Google like the log buckets they come from
  project                    = var.project_id
  name                       = "${var.name}-dead-letter"
  labels                     = var.labels
  message_retention_duration = "2678400s" # 31 days, the most there is
}

# Without a subscription a topic forgets; with one that expires it would forget after a quiet month.
resource "google_pubsub_subscription" "dead_letter" {
  project                    = var.project_id
  name                       = "${var.name}-dead-letter"
  topic                      = google_pubsub_topic.dead_letter.id
  labels                     = var.labels
  ack_deadline_seconds       = 600
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# Pub/Sub's own agent is made when Pub/Sub is first used, and cannot be granted anything before it is there.
resource "time_sleep" "pubsub_agent" {
  create_duration = "60s"
  triggers        = { topics = "${google_pubsub_topic.events.id} ${google_pubsub_topic.dead_letter.id}" }
}

# Pub/Sub itself moves undeliverable messages; the other half of this permission is on the push subscription.
resource "google_pubsub_topic_iam_member" "dead_letter_service_agent" {
  project = var.project_id
  topic   = google_pubsub_topic.dead_letter.name
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:service-${data.google_project.home.number}@gcp-sa-pubsub.iam.gserviceaccount.com"

  depends_on = [time_sleep.pubsub_agent]
}
