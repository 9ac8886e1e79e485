locals {
  # Where outcomes are recorded: on the VM, or on the function if an event names none. PromQL has to name the resource.
  recorded_on = ["gce_instance", "cloud_run_revision"]

  charts = [
    { title = "Events by result", sum = "result", of = "" },
    { title = "Remediated", filter = "metric.type=\"${local.metric}\" metric.label.result=\"remediated\"", group = ["metric.label.runbook"] },
    { title = "Failed, by reason", filter = "metric.type=\"${local.metric}\" metric.label.result=\"failed\"", group = ["metric.label.reason"] },
    { title = "Failed, by owner", filter = "metric.type=\"${local.metric}\" metric.label.result=\"failed\"", group = ["metric.label.owner"] },
    { title = "Plans made, and about to expire", filter = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.approvals.name}\"", group = ["metric.label.result"] },
    { title = "Left alone, by reason", sum = "reason", of = ",result=~\"refused|skipped\"" },
    { title = "Ticks", filter = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.ticks.name}\"", group = [] },
    { title = "Function: requests by class", filter = "metric.type=\"run.googleapis.com/request_count\" ${local.function_filter}", group = ["metric.label.response_code_class"] },
    { title = "Oldest message not acknowledged (s)", filter = "metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" ${local.push_filter}", group = [], aligner = "ALIGN_MAX" },
    { title = "Dead letters", filter = "metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" ${local.dead_letter_filter}", group = [], aligner = "ALIGN_MAX" },
    { title = "Start to outcome, 95th percentile (ms)", filter = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.latency.name}\"", group = [], aligner = "ALIGN_PERCENTILE_95", reducer = "REDUCE_MAX" },
    { title = "Function: instances", filter = "metric.type=\"run.googleapis.com/container/instance_count\" ${local.function_filter}", group = [], aligner = "ALIGN_MAX" },
  ]
}

resource "google_monitoring_dashboard" "logmend" {
  project = var.project_id
  dashboard_json = jsonencode({
    displayName = "logmend (${var.name})"
    mosaicLayout = {
      columns = 12
      tiles = [for index, chart in local.charts : {
        xPos   = index % 2 * 6
        yPos   = floor(index / 2) * 4
        width  = 6
        height = 4
        widget = {
          title = chart.title
          xyChart = {
            dataSets = [for query in lookup(chart, "sum", null) == null ? [null] : local.recorded_on : {
              plotType = "STACKED_AREA"
              timeSeriesQuery = { for kind, value in {
                prometheusQuery = query == null ? null : "sum by (${chart.sum}) (increase(${local.promql.events}_sum{monitored_resource=\"${query}\"${chart.of}}[$${__interval}]))"
                timeSeriesFilter = query != null ? null : {
                  filter = chart.filter
                  aggregation = {
                    alignmentPeriod    = "300s"
                    perSeriesAligner   = lookup(chart, "aligner", "ALIGN_DELTA")
                    crossSeriesReducer = lookup(chart, "reducer", "REDUCE_SUM")
                    groupByFields      = chart.group
                  }
                }
              } : kind => value if value != null }
            }]
          }
        }
      }]
    }
  })

  depends_on = [time_sleep.apis]
}
