# Alert policies that drive runbooks: the policy names its runbook in the user label logmend-runbook, the incident's
# resource names the VM, and the notification goes to the same topic as log entries. The incident orders nothing:
# the check on the VM has to see the fault.
#
# A policy sees the metrics of this project's metrics scope; add the VMs' projects to it where they are others. Logs of
# other projects it never sees: a metric that counts log entries is made in each project.

locals {
  incidents    = length(var.incident_runbooks) > 0
  vm_of_series = ["resource.label.project_id", "resource.label.zone", "resource.label.instance_id"]
}

resource "google_monitoring_notification_channel" "events" {
  count = local.incidents ? 1 : 0

  project      = var.project_id
  display_name = "logmend: events"
  type         = "pubsub"
  labels       = { topic = module.sink.topic }
  user_labels  = var.labels
}

resource "google_pubsub_topic_iam_member" "incidents" {
  count = local.incidents ? 1 : 0

  project    = var.project_id
  topic      = module.sink.topic_name
  role       = "roles/pubsub.publisher"
  member     = local.service_agent["gcp-sa-monitoring-notification"]
  depends_on = [time_sleep.notification_agent]
}

# Fires for VMs that once had the agent: what never reported cannot fall silent (`logmend run --runbook ops-agent` checks
# such VMs). A VM that was stopped falls silent too; it ends as skipped: not_running.
resource "google_monitoring_alert_policy" "ops_agent" {
  count = contains(var.incident_runbooks, "ops-agent") ? 1 : 0

  project               = var.project_id
  display_name          = "logmend: Ops Agent silent"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = google_monitoring_notification_channel.events[*].id
  user_labels           = merge(var.labels, { logmend-runbook = "ops-agent" })

  # One for each sub-agent: a sum over both would let half an agent pass for a whole one. The metric's version names it
  # (ops-agent, confgenerator.go), such as google-cloud-ops-agent-logging-2.50.0-1; the metrics agent sends both.
  dynamic "conditions" {
    for_each = ["logging", "metrics"]

    content {
      display_name = "no sign of life of the Ops Agent's ${conditions.value} agent for half an hour"

      condition_absent {
        filter   = "metric.type = \"agent.googleapis.com/agent/uptime\" AND resource.type = \"gce_instance\" AND metric.labels.version = starts_with(\"google-cloud-ops-agent-${conditions.value}\")"
        duration = "1800s"

        aggregations {
          alignment_period     = "300s"
          per_series_aligner   = "ALIGN_RATE"
          cross_series_reducer = "REDUCE_SUM"
          group_by_fields      = local.vm_of_series
        }
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "logmend checks the VM and, in enforce mode, installs or starts the Ops Agent. The outcome carries this incident's id."
  }
}

# The same line that the sink routes, as a metric of each project: for where no sink may be made. A metric-threshold policy, not a
# log-match one: those send at most 20 notifications a day, none at the close, and not the log entry.
resource "google_logging_metric" "certificate_line" {
  for_each = contains(var.incident_runbooks, "workload-cert-refresh") ? toset(local.projects) : toset([])

  project     = each.key
  name        = "${var.name}/certificate-line"
  description = "Lines of gce_workload_cert_refresh that the runbook workload-cert-refresh asks for."
  filter      = try(local.runbooks["workload-cert-refresh"].filter, null) # if it is off, the archive says so

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "Workload certificate refresh errors"
  }

  depends_on = [time_sleep.apis]
}

resource "google_monitoring_alert_policy" "certificate_line" {
  count = contains(var.incident_runbooks, "workload-cert-refresh") ? 1 : 0

  project               = var.project_id
  display_name          = "logmend: workload certificate refresh fails"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = google_monitoring_notification_channel.events[*].id
  user_labels           = merge(var.labels, { logmend-runbook = "workload-cert-refresh" })

  conditions {
    display_name = "the line was logged in the last half hour"

    condition_threshold {
      filter          = "metric.type = \"logging.googleapis.com/user/${var.name}/certificate-line\" AND resource.type = \"gce_instance\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period     = "1800s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = local.vm_of_series
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "logmend checks the VM and, in enforce mode, turns gce-workload-cert-refresh.timer off if certificates are not in use. The outcome carries this incident's id."
  }

  lifecycle {
    precondition {
      condition     = length(local.projects) > 0
      error_message = "incident_runbooks with workload-cert-refresh needs projects: the metric that counts the line is made in each, for a folder's logs cannot be counted as a whole."
    }
  }

  depends_on = [time_sleep.metrics]
}
