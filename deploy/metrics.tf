# What logmend records, told apart by the labels of its entries.

locals {
  outcome_log = "projects/${var.project_id}/logs/logmend"
  metric      = "logging.googleapis.com/user/${google_logging_metric.outcomes.name}"
  # Only those that are known: anybody who may label a VM could make new values, and each is a series. No label has a comma.
  known_owner = "REGEXP_EXTRACT(jsonPayload.owner, \"^(${length(var.owners) > 0 ? join("|", keys(var.owners)) : ","})$\")"
  # As UNREACHED in functions/logmend/outcome/reasons.py.
  unreached = ["connection_lost", "deadline_exceeded", "no_agent_detected", "no_report", "no_route", "session_refused", "ssh_busy", "ssh_protocol_error", "unreachable"]
}

resource "google_logging_metric" "outcomes" {
  project     = var.project_id
  name        = "${var.name}/outcomes"
  description = "Entries by result, reason and runbook."
  filter      = "logName = \"${local.outcome_log}\""

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "logmend outcomes"

    labels {
      key         = "result"
      value_type  = "STRING"
      description = "What became of the event."
    }
    labels {
      key         = "reason"
      value_type  = "STRING"
      description = "Why."
    }
    labels {
      key         = "runbook"
      value_type  = "STRING"
      description = "Which runbook looked after it."
    }
    labels {
      key         = "cause"
      value_type  = "STRING"
      description = "Why the fault is there, of the list that the runbook declares, or unknown."
    }
    labels {
      key         = "severity"
      value_type  = "STRING"
      description = "ERROR asks for a person."
    }
    labels {
      key         = "owner"
      value_type  = "STRING"
      description = "Whose VM it is, if variable owners knows whom its label names."
    }
  }

  label_extractors = {
    owner    = local.known_owner
    result   = "EXTRACT(labels.result)"
    reason   = "EXTRACT(labels.reason)"
    runbook  = "EXTRACT(labels.runbook)"
    cause    = "EXTRACT(labels.cause)"
    severity = "EXTRACT(severity)"
  }

  depends_on = [time_sleep.apis]
}

# An entry may tell of many events (docs/outcomes.md: what is counted): the sum of what each tells is how many there were. It takes
# a distribution, and a name of its own: the type of a metric cannot be changed. Alerts ask whether there is anything,
# for which `outcomes` is enough. Only PromQL can sum a distribution (cloud.google.com/monitoring/promql/promql-mapping).
resource "google_logging_metric" "events" {
  project         = var.project_id
  name            = "${var.name}/events"
  description     = "Events by result, reason and runbook: the sum of the entries' count."
  filter          = "logName = \"${local.outcome_log}\" AND NOT labels.result = (\"controlled\" OR \"deferred\" OR \"interrupted\" OR \"parked\" OR \"requested\" OR \"unverified\")"
  value_extractor = "EXTRACT(jsonPayload.count)"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = "1"
    display_name = "logmend events"

    labels {
      key         = "result"
      value_type  = "STRING"
      description = "What became of the event in the end."
    }
    labels {
      key         = "reason"
      value_type  = "STRING"
      description = "Why."
    }
    labels {
      key         = "runbook"
      value_type  = "STRING"
      description = "Which runbook looked after it."
    }
  }

  label_extractors = {
    result  = "EXTRACT(labels.result)"
    reason  = "EXTRACT(labels.reason)"
    runbook = "EXTRACT(labels.runbook)"
  }

  bucket_options {
    exponential_buckets {
      scale              = 1
      growth_factor      = 2
      num_finite_buckets = 12
    }
  }

  depends_on = [time_sleep.apis]
}

# Plans that wait for a person, and that are about to expire.
resource "google_logging_metric" "approvals" {
  project     = var.project_id
  name        = "${var.name}/approvals"
  description = "Plans made for a person to decide on, and those that nobody decided on so far."
  filter      = "logName = \"${local.outcome_log}\" AND ((labels.result = \"planned\" AND jsonPayload.approval.id:*) OR labels.reason = \"approval_expiring\")"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "logmend plans"

    labels {
      key         = "result"
      value_type  = "STRING"
      description = "planned, or controlled if it is about to expire."
    }
    labels {
      key         = "reason"
      value_type  = "STRING"
      description = "Why."
    }
    labels {
      key         = "runbook"
      value_type  = "STRING"
      description = "Which runbook looks after it."
    }
    labels {
      key         = "owner"
      value_type  = "STRING"
      description = "Whose VM it is, if variable owners knows whom its label names."
    }
  }

  label_extractors = {
    owner   = local.known_owner
    result  = "EXTRACT(labels.result)"
    reason  = "EXTRACT(labels.reason)"
    runbook = "EXTRACT(labels.runbook)"
  }

  depends_on = [time_sleep.apis]
}

# The function says so of each outcome that its topic did not take.
resource "google_logging_metric" "unpublished" {
  project     = var.project_id
  name        = "${var.name}/unpublished"
  description = "Outcomes that could not be published to their topic, by reason."
  filter      = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\" AND jsonPayload.logger = \"logmend.adapters.google.outcome_topic\""

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "logmend outcomes not published"

    labels {
      key         = "reason"
      value_type  = "STRING"
      description = "Why; paused: nothing is tried for a minute after no answer."
    }
  }

  label_extractors = {
    reason = "REGEXP_EXTRACT(jsonPayload.message, \"^not published: ([a-z_]+)\")"
  }

  depends_on = [time_sleep.apis]
}

# How long it takes from a message's publishing to the outcome of a VM that was remediated.
resource "google_logging_metric" "latency" {
  project         = var.project_id
  name            = "${var.name}/latency"
  description     = "Milliseconds from start to outcome, of what was enforced."
  filter          = "logName = \"${local.outcome_log}\" AND labels.result = (\"remediated\" OR \"failed\" OR \"unverified\")"
  value_extractor = "EXTRACT(jsonPayload.latency_ms.total)"

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "DISTRIBUTION"
    unit         = "ms"
    display_name = "logmend latency"
  }

  bucket_options {
    exponential_buckets {
      scale              = 100
      growth_factor      = 1.5
      num_finite_buckets = 24
    }
  }

  depends_on = [time_sleep.apis]
}

# The function prints a line for every tick that it finished.
resource "google_logging_metric" "ticks" {
  project     = var.project_id
  name        = "${var.name}/ticks"
  description = "Ticks that the function finished."
  filter      = "resource.type = \"cloud_run_revision\" AND resource.labels.service_name = \"${var.name}\" AND jsonPayload.logmend = \"tick\""

  metric_descriptor {
    metric_kind  = "DELTA"
    value_type   = "INT64"
    unit         = "1"
    display_name = "logmend ticks"
  }

  depends_on = [time_sleep.apis]
}
