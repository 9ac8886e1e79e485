# Alerts for people. docs/operations.md says under the same names what each means and what to do next.

locals {
  channels = concat(var.notification_channels, [for channel in google_monitoring_notification_channel.email : channel.id])

  outcome_filter = "metric.type = \"${local.metric}\" AND resource.type = \"gce_instance\""
  # The function asks for redelivery with 5xx, so a few are normal: only those that go on matter.
  function_filter = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\""
  # The metric's own words for a subscription.
  push_filter        = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.push.name}\""
  dead_letter_filter = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${module.sink.dead_letter_subscription}\""

  alerts = {
    failed = {
      title  = "an attempt failed"
      filter = "${local.outcome_filter} AND metric.labels.result = \"failed\""
      next   = "`logmend status` lists the VMs, each with its reason and next step."
    }
    line_goes_on = {
      title    = "a verified fix did not last"
      filter   = "${local.outcome_filter} AND metric.labels.reason = \"line_goes_on\""
      severity = "CRITICAL"
      next     = "Stop (`logmend freeze`), then find out what turned it on again: `logmend status` names the VM and what was seen."
    }
    unverified = {
      title  = "enforced without evidence"
      filter = "${local.outcome_filter} AND metric.labels.result = \"unverified\""
      next   = "Nothing yet: the tick checks again. After three checks it becomes `failed: unverifiable`."
    }
    needs_human = {
      title  = "a VM is left to a person"
      filter = "${local.outcome_filter} AND metric.labels.reason = \"needs_human\" AND metric.labels.severity = \"ERROR\"" # the first
      next   = "`logmend status` shows which; remove the cause, then `logmend resume --instance PROJECT/ZONE/ID`."
    }
    breaker_open = {
      title  = "the breaker is open"
      filter = "${local.outcome_filter} AND metric.labels.reason = \"breaker_open\""
      next   = "Find what the failed VMs have in common (`logmend status`), then `logmend resume --runbook NAME`."
    }
    unreached = {
      title     = "VMs of one project and zone cannot be reached"
      filter    = "metric.type = \"logging.googleapis.com/user/${google_logging_metric.unreached.name}\" AND resource.type = \"gce_instance\""
      threshold = 4
      period    = "3600s"
      group     = ["metric.label.project", "metric.label.zone"]
      next      = "`logmend status` counts them by project and zone; look for what they share: firewall, route, sshd, agent. Other VMs go on."
    }
    dead_letter = {
      title   = "the dead letter is not empty"
      filter  = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local.dead_letter_filter}"
      aligner = "ALIGN_MAX"
      next    = "`logmend replay --subscription ${module.sink.dead_letter_subscription}` explains each message; add `--publish` once the cause is removed."
    }
    oldest_message = {
      title     = "messages are not acknowledged"
      filter    = "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local.push_filter}"
      aligner   = "ALIGN_MAX"
      threshold = 1800
      next      = "`logmend doctor` names the step that fails. After about forty minutes messages go to the dead letter."
    }
    sink_errors = {
      title  = "the sink cannot export"
      filter = "metric.type = \"logging.googleapis.com/exports/error_count\" AND resource.type = \"logging_sink\" AND resource.labels.name = \"${var.name}\""
      next   = "`logmend doctor`: usually the writer identity may not publish. What was not exported is found with `logmend scan`."
    }
    function_errors = {
      title    = "the function keeps failing"
      filter   = "metric.type = \"run.googleapis.com/request_count\" AND ${local.function_filter} AND metric.labels.response_code_class = \"5xx\""
      duration = "900s"
      next     = "The function's log, severity WARNING and above, says why it defers; `logmend doctor` checks what it needs."
    }
  }
}

resource "google_monitoring_notification_channel" "email" {
  for_each = toset(var.alert_emails)

  project      = var.project_id
  display_name = "logmend: ${each.key}"
  type         = "email"
  labels       = { email_address = each.key }
  user_labels  = var.labels

  depends_on = [time_sleep.apis]
}

resource "google_monitoring_alert_policy" "alert" {
  for_each = local.alerts

  project               = var.project_id
  display_name          = "logmend: ${each.value.title}"
  combiner              = "OR"
  severity              = lookup(each.value, "severity", contains(["unverified", "function_errors"], each.key) ? "WARNING" : "ERROR")
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = each.value.title

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = lookup(each.value, "threshold", 0)
      duration        = lookup(each.value, "duration", "0s")

      aggregations {
        # Outcomes of a VM come as often as its line: an hour's window makes one incident of them, not one each.
        alignment_period     = lookup(each.value, "period", startswith(each.value.filter, local.outcome_filter) ? "3600s" : "300s")
        per_series_aligner   = lookup(each.value, "aligner", "ALIGN_DELTA")
        cross_series_reducer = "REDUCE_SUM"
        group_by_fields      = lookup(each.value, "group", startswith(each.value.filter, local.outcome_filter) ? ["metric.label.runbook", "metric.label.reason"] : [])
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "${each.value.next}\n\nMore: docs/operations.md, \"${each.key}\"."
  }

  depends_on = [time_sleep.metrics]
}

# A metric-absence condition needs one point since it was made: it tells of ticks that stopped, not of ticks that never
# began. `oldest_message`, `function_errors` and `logmend doctor` tell of those.
resource "google_monitoring_alert_policy" "missed_tick" {
  project               = var.project_id
  display_name          = "logmend: the tick is missing"
  combiner              = "OR"
  severity              = "ERROR"
  notification_channels = local.channels
  user_labels           = var.labels

  conditions {
    display_name = "no tick finished for a quarter of an hour"

    condition_absent {
      filter   = "metric.type = \"logging.googleapis.com/user/${google_logging_metric.ticks.name}\" AND resource.type = \"cloud_run_revision\""
      duration = "900s"

      aggregations {
        alignment_period     = "300s"
        per_series_aligner   = "ALIGN_DELTA"
        cross_series_reducer = "REDUCE_SUM"
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Queued work is not being processed. `logmend doctor` checks the scheduler, the topic and the function; `logmend tick` runs one now.\n\nMore: docs/operations.md, \"missed_tick\"."
  }

  depends_on = [time_sleep.metrics]
}
