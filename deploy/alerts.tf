# Alerts for people. docs/operations.md says under the same names what each means and what to do next.
#
# VMs are counted in PromQL: nothing else in Monitoring counts VMs rather than outcomes, and compares two such counts. Its
# value is ${metric.label.value} in the documentation, a label ${metric_or_resource.label.KEY} (as `gcloud monitoring
# policies migrate` translates Prometheus's own); a plain threshold has no variable for its value
# (cloud.google.com/monitoring/alerts/doc-variables).

locals {
  channels = concat(var.notification_channels, [for channel in google_monitoring_notification_channel.email : channel.id])

  # The function asks for redelivery with 5xx, so a few are normal: only those that go on matter.
  function_filter = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\""
  # The metric's own words for a subscription.
  push_filter        = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${google_pubsub_subscription.push.name}\""
  dead_letter_filter = "resource.type = \"pubsub_subscription\" AND resource.labels.subscription_id = \"${module.sink.dead_letter_subscription}\""

  # What var.alerts may change. threshold: at least so many VMs within an hour, or what else the alert counts. share: and at
  # least so much of the VMs that were attempted. owner_threshold: the same of one owner's VMs; 0: owners are not told.
  alert_defaults = {
    failed            = { threshold = 10, share = 0.05, owner_threshold = 3 }
    unverified        = { threshold = 10, share = 0.05, owner_threshold = 3 }
    needs_human       = { threshold = 1, share = 0, owner_threshold = 1 }
    line_goes_on      = { threshold = 1, share = 0, owner_threshold = 1 }
    approval_waits    = { threshold = 1, share = 0, owner_threshold = 1 }
    approval_expiring = { threshold = 1, share = 0, owner_threshold = 1 }
    unreached         = { threshold = 5, share = 0, owner_threshold = 0 }
    breaker_open      = { threshold = 1 }
    dead_letter       = { threshold = 1 }
    oldest_message    = { threshold = 1800 }
    sink_errors       = { threshold = 1 }
    function_errors   = { threshold = 1 }
    unpublished       = { threshold = 1 }
    missed_tick       = {}
  }
  alert_settings = { for key, each in local.alert_defaults :
    key => merge({ enabled = true, owner_threshold = 0 }, each, try({ for name, value in var.alerts[key] : name => value if value != null }, {}))
  }

  # cloud.google.com/monitoring/promql/promql-mapping: the first / of a metric's name is a colon, other characters are _.
  promql = { for name in ["outcomes", "approvals", "events"] : name => "logging_googleapis_com:user_${replace(var.name, "-", "_")}_${name}" }

  # Which entries of the log of outcomes, in the labels that their metric takes from them; `by` tells incidents apart.
  vm_alerts = {
    failed = {
      title = "attempts fail"
      match = { result = "failed" }
      next  = "`logmend status` lists the VMs, each with its reason and next step."
    }
    unverified = {
      title    = "enforced without evidence"
      match    = { result = "unverified" }
      severity = "WARNING"
      next     = "Nothing yet: the tick checks again. After three checks it becomes `failed: unverifiable`."
    }
    needs_human = {
      title    = "VMs are left to a person"
      match    = { reason = "needs_human", severity = "ERROR" } # the first of each VM
      severity = "WARNING"
      next     = "`logmend status` shows which; remove the cause, then `logmend resume --instance PROJECT/ZONE/ID`."
    }
    line_goes_on = {
      title    = "a verified fix did not last"
      match    = { reason = "line_goes_on" }
      severity = "CRITICAL"
      next     = "Stop (`logmend freeze`), then find out what turned it on again: `logmend status` names the VM and what was seen."
    }
    approval_waits = {
      title    = "plans wait for a person"
      metric   = "approvals"
      match    = { result = "planned" }
      reasons  = false
      severity = "WARNING"
      next     = "`logmend approvals list` shows each with its age and what will happen; then `logmend approvals approve` or `logmend approvals reject`."
    }
    approval_expiring = {
      title  = "plans are about to expire"
      metric = "approvals"
      match  = { reason = "approval_expiring" }
      next   = "A quarter of their time is left: `logmend approvals list`. A plan that nobody decides on expires, and its VM keeps the fault."
    }
    unreached = {
      title = "VMs of one project and zone cannot be reached"
      match = { result = "failed|unverified", reason = join("|", local.unreached) }
      by    = ["project_id", "zone"]
      next  = "`logmend status` counts them by project and zone; look for what they share: firewall, route, sshd, agent. Other VMs go on."
    }
  }
  vm_policies = merge([for owner in concat([""], keys(var.owners)) : {
    for key, each in local.vm_alerts : owner == "" ? key : "${key}-${owner}" => merge(
      { metric = "outcomes", by = ["runbook"], severity = "ERROR", reasons = true },
      each,
      {
        key       = key
        channels  = owner == "" ? local.channels : var.owners[owner]
        whose     = owner == "" ? "" : " (${owner})"
        threshold = local.alert_settings[key][owner == "" ? "threshold" : "owner_threshold"]
        share     = local.alert_settings[key].share
        selected  = merge(each.match, owner == "" ? {} : { owner = owner })
        attempted = merge({ result = "remediated|nothing_to_do|planned|failed|unverified|reverted" }, owner == "" ? {} : { owner = owner })
      },
    ) if local.alert_settings[key].enabled && (owner == "" || local.alert_settings[key].owner_threshold > 0)
  }]...)
  # A VM counts if it had such an outcome within the last hour.
  counted = { for name, each in local.vm_policies : name => { for what, labels in { selected = each.selected, attempted = each.attempted } :
    what => { for more in ["", ", reason"] :
      more => "count by (${join(", ", each.by)}${more}) (sum by (${join(", ", distinct(concat(each.by, ["project_id", "zone", "instance_id"])))}${more}) (increase(${local.promql[each.metric]}{${join(",", ["monitored_resource=\"gce_instance\"", join(",", [for label, value in labels : "${label}=~\"${value}\""])])}}[1h])) > 0)"
    }
  } }
  # One series, and so one incident, for each reason that at least a fifth of those VMs have; its value is how many. If no
  # reason is that common, one series of all those VMs, whose reason is "various" (an absent label reads "null" in a text).
  queries = { for name, each in local.vm_policies : name => join(" and on (${join(", ", each.by)}) ", concat(
    ["((${local.counted[name].selected[", reason"]} >= on (${join(", ", each.by)}) group_left () 0.2 * ${local.counted[name].selected[""]}) or on (${join(", ", each.by)}) label_replace(${local.counted[name].selected[""]}, \"reason\", \"various\", \"${each.by[0]}\", \".*\"))"],
    ["(${local.counted[name].selected[""]} >= ${each.threshold})"],
    each.share == 0 ? [] : ["(${local.counted[name].selected[""]} / ${local.counted[name].attempted[""]} >= ${each.share})"],
  )) }

  # What one event, or a state, is enough for.
  alerts = {
    breaker_open = {
      title  = "the breaker is open"
      filter = "metric.type = \"${local.metric}\" AND resource.type = \"cloud_run_revision\" AND metric.labels.reason = \"breaker_opened\""
      also   = "metric.type = \"${local.metric}\" AND resource.type = \"gce_instance\" AND metric.labels.reason = \"breaker_open\""
      period = "3600s" # what it holds back comes as often as lines: one incident of it, not one each
      group  = ["metric.label.runbook"]
      shows  = "labels.reason = (\"breaker_opened\" OR \"breaker_open\")"
      next   = "Find what the failed VMs have in common (`logmend status`), then `logmend resume --runbook NAME`."
    }
    dead_letter = {
      title   = "the dead letter is not empty"
      filter  = "metric.type = \"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND ${local.dead_letter_filter}"
      aligner = "ALIGN_MAX"
      shows   = "labels.result = \"rejected\""
      next    = "`logmend replay --subscription ${module.sink.dead_letter_subscription}` explains each message; add `--publish` once the cause is removed."
    }
    oldest_message = {
      title   = "messages are not acknowledged"
      filter  = "metric.type = \"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND ${local.push_filter}"
      aligner = "ALIGN_MAX"
      shows   = "labels.result = \"deferred\""
      next    = "`logmend doctor` names the step that fails. After about forty minutes messages go to the dead letter."
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
      severity = "WARNING"
      shows    = "labels.result = \"deferred\""
      next     = "The function's log, severity WARNING and above, says why it defers; `logmend doctor` checks what it needs."
    }
    unpublished = {
      title    = "outcomes are not published"
      filter   = "metric.type = \"logging.googleapis.com/user/${google_logging_metric.unpublished.name}\" AND resource.type = \"cloud_run_revision\""
      severity = "WARNING"
      group    = ["metric.label.reason"]
      next     = "Tickets and chat miss them; the log of outcomes has them all. The reason says whether the topic is missing, forbidden or away."
    }
    # A metric-absence condition needs one point since it was made: it tells of ticks that stopped, not of ticks that never
    # began. `oldest_message`, `function_errors` and `logmend doctor` tell of those.
    missed_tick = {
      title  = "the tick is missing"
      filter = "metric.type = \"logging.googleapis.com/user/${google_logging_metric.ticks.name}\" AND resource.type = \"cloud_run_revision\""
      absent = "900s"
      next   = "Queued work is not being processed. `logmend doctor` checks the scheduler, the topic and the function; `logmend tick` runs one now."
    }
  }

  alert_policies = merge(
    { for name, each in local.vm_policies : name => {
      key       = each.key
      title     = "${each.title}${each.whose}"
      severity  = each.severity
      channels  = each.channels
      query     = local.queries[name]
      subject   = "logmend: ${each.title}${each.whose}: $${metric.label.value} VMs, ${join(", ", [for label in concat(each.by, each.reasons ? ["reason"] : []) : "$${metric_or_resource.label.${label}}"])}"
      content   = "**$${metric.label.value} VMs**, ${join(", ", [for label in concat(each.by, each.reasons ? ["reason"] : []) : "${label} $${metric_or_resource.label.${label}}"])}.\n\n${each.next}"
      shows     = join(" ", [for label, value in each.match : label == "severity" ? "severity = ${value}" : "labels.${label} = (${join(" OR ", [for word in split("|", value) : "\"${word}\""])})"])
      filter    = null
      also      = null
      absent    = null
      threshold = 0
      duration  = null
      aligner   = null
      period    = null
      group     = []
    } },
    { for name, each in local.alerts : name => merge(
      { severity = "ERROR", also = null, absent = null, duration = "0s", aligner = "ALIGN_DELTA", period = "300s", group = [], shows = null },
      each,
      {
        key       = name
        channels  = local.channels
        query     = null
        subject   = "logmend: ${each.title}"
        content   = each.next
        threshold = try(local.alert_settings[name].threshold, 1) - 1 # the comparison is GT, and all these are whole numbers
      },
    ) if local.alert_settings[name].enabled && (name != "unpublished" || var.outcome_topic) },
  )
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
  for_each = local.alert_policies

  project               = var.project_id
  display_name          = "logmend: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = each.value.channels
  user_labels           = merge(var.labels, { logmend-alert = each.key, logmend-name = var.name })

  conditions {
    display_name = each.value.title

    dynamic "condition_prometheus_query_language" {
      for_each = each.value.query == null ? [] : [each.value.query]
      content {
        query                     = condition_prometheus_query_language.value
        duration                  = "0s"
        evaluation_interval       = "300s"
        disable_metric_validation = true # an owner's first VM may be long in coming
      }
    }

    dynamic "condition_threshold" {
      for_each = each.value.filter == null || each.value.absent != null ? [] : [each.value]
      content {
        filter          = condition_threshold.value.filter
        comparison      = "COMPARISON_GT"
        threshold_value = condition_threshold.value.threshold
        duration        = condition_threshold.value.duration

        aggregations {
          alignment_period     = condition_threshold.value.period
          per_series_aligner   = condition_threshold.value.aligner
          cross_series_reducer = "REDUCE_SUM"
          group_by_fields      = condition_threshold.value.group
        }
      }
    }

    dynamic "condition_absent" {
      for_each = each.value.absent == null ? [] : [each.value]
      content {
        filter   = condition_absent.value.filter
        duration = condition_absent.value.absent

        aggregations {
          alignment_period     = condition_absent.value.period
          per_series_aligner   = condition_absent.value.aligner
          cross_series_reducer = "REDUCE_SUM"
        }
      }
    }
  }

  # Of another resource: a filter names one.
  dynamic "conditions" {
    for_each = each.value.also == null ? [] : [each.value]
    content {
      display_name = "${conditions.value.title}, and holds VMs back"

      condition_threshold {
        filter          = conditions.value.also
        comparison      = "COMPARISON_GT"
        threshold_value = conditions.value.threshold
        duration        = conditions.value.duration

        aggregations {
          alignment_period     = conditions.value.period
          per_series_aligner   = conditions.value.aligner
          cross_series_reducer = "REDUCE_SUM"
          group_by_fields      = conditions.value.group
        }
      }
    }
  }

  alert_strategy {
    auto_close = "86400s"
  }

  documentation {
    mime_type = "text/markdown"
    subject   = each.value.subject
    content   = "${each.value.content}\n\nMore: docs/operations.md, \"${each.value.key}\"."

    dynamic "links" {
      for_each = var.guide_url == null ? [] : ["${var.guide_url}#${each.value.key}"]
      content {
        display_name = "What it means and what to do"
        url          = links.value
      }
    }

    dynamic "links" {
      for_each = each.value.shows == null ? [] : [replace(urlencode("logName=\"${local.outcome_log}\" ${each.value.shows}"), "+", "%20")]
      content {
        display_name = "Outcomes of the last hour"
        url          = "https://console.cloud.google.com/logs/query;query=${links.value};duration=PT1H?project=${var.project_id}"
      }
    }

    links {
      display_name = "Dashboard"
      url          = "https://console.cloud.google.com/monitoring/dashboards?project=${var.project_id}"
    }
  }

  depends_on = [time_sleep.metrics]
}

moved {
  from = google_monitoring_alert_policy.missed_tick
  to   = google_monitoring_alert_policy.alert["missed_tick"]
}
