# The tick drains parked intents, closes requested and detached work, takes over expired leases and looks again at
# what is unverified. It comes as a message, so that it takes the path that everything else takes.
resource "google_cloud_scheduler_job" "tick" {
  project     = var.project_id
  region      = var.region
  name        = "${var.name}-tick"
  description = "Every five minutes: each OS Config agent run replaces the report of the one before."
  schedule    = "*/5 * * * *"
  time_zone   = "Etc/UTC"

  pubsub_target {
    topic_name = module.sink.topic
    data       = base64encode(jsonencode({ logmend = "tick" }))
  }

  retry_config {
    retry_count = 3
  }

  depends_on = [google_pubsub_subscription.push] # and with it the function and the ledger's indexes
}
