# Google says that something is made, and some time later it is there for all of Google. Each wait is as long as Google
# itself says that it may take; they end long before, or beside, the build of the function, but for the metrics' ten
# minutes. An apply that changes nothing of what they wait for waits for nothing.

resource "time_sleep" "apis" {
  create_duration = "60s"
  triggers = {
    project = var.project_id
    apis = join(" ", sort(concat(
      [for each in google_project_service.home : each.service],
      [for each in google_project_service.fleet : "${each.project}/${each.service}"],
    )))
  }
}

# cloud.google.com/iam/docs/access-change-propagation: typically two minutes. Until then the build cannot read its source,
# and the function's first requests fail.
resource "time_sleep" "roles" {
  create_duration = "120s"
  triggers = {
    build    = join(" ", [for each in google_project_iam_member.build : each.member])
    function = "${google_project_iam_member.ledger.member} ${google_project_iam_member.recorder.member}"
  }
}

# "If a metric was created recently, it could take up to 10 minutes to become available", says the 404 that an alert
# policy on it gets until then, and the provider does not try again (terraform-provider-google, issue 11102).
resource "time_sleep" "metrics" {
  create_duration = "600s"
  triggers = {
    metrics = join(" ", concat(
      [google_logging_metric.outcomes.id, google_logging_metric.ticks.id, google_logging_metric.approvals.id, google_logging_metric.unpublished.id],
      [for each in google_logging_metric.certificate_line : each.id],
    ))
  }
}

# Monitoring's agent is made with the first Pub/Sub channel.
resource "time_sleep" "notification_agent" {
  count = local.incidents ? 1 : 0

  create_duration = "60s"
  triggers        = { channel = google_monitoring_notification_channel.events[0].id }
}
