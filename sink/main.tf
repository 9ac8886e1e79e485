# Routes the log entries that the runbooks ask for to a topic, and keeps a second topic for what could not be
# dealt with. The push subscription belongs to whoever deploys the function (deploy/).

data "google_project" "home" {
  project_id = var.project_id
}

locals {
  filter   = coalesce(var.filter, file("${path.module}/filter.lql"))
  projects = var.folder_id != null || var.organization_id != null ? [] : length(var.projects) > 0 ? var.projects : [var.project_id]
}

resource "google_pubsub_topic" "events" {
  # checkov:skip=CKV_GCP_83: messages are copies of log entries, encrypted at rest by Google like the log buckets they come from
  project                    = var.project_id
  name                       = var.name
  labels                     = var.labels
  message_retention_duration = "${var.message_retention_days * 86400}s"
}

resource "google_logging_project_sink" "this" {
  for_each = toset(local.projects)

  project                = each.key
  name                   = var.name
  description            = "Log entries that logmend has a runbook for."
  destination            = "pubsub.googleapis.com/${google_pubsub_topic.events.id}"
  filter                 = local.filter
  unique_writer_identity = true
}

resource "google_logging_folder_sink" "this" {
  count = var.folder_id == null ? 0 : 1

  folder           = "folders/${var.folder_id}"
  name             = var.name
  description      = "Log entries that logmend has a runbook for."
  destination      = "pubsub.googleapis.com/${google_pubsub_topic.events.id}"
  filter           = local.filter
  include_children = true
}

resource "google_logging_organization_sink" "this" {
  count = var.organization_id == null ? 0 : 1

  org_id           = var.organization_id
  name             = var.name
  description      = "Log entries that logmend has a runbook for."
  destination      = "pubsub.googleapis.com/${google_pubsub_topic.events.id}"
  filter           = local.filter
  include_children = true
}

# Without this the sink exports nothing and says so only in logging.googleapis.com/exports/error_count.
resource "google_pubsub_topic_iam_member" "writer" {
  for_each = merge(
    { for project, sink in google_logging_project_sink.this : "project-${project}" => sink.writer_identity },
    { for index, sink in google_logging_folder_sink.this : "folder" => sink.writer_identity },
    { for index, sink in google_logging_organization_sink.this : "organization" => sink.writer_identity },
  )

  project = var.project_id
  topic   = google_pubsub_topic.events.name
  role    = "roles/pubsub.publisher"
  member  = each.value
}
