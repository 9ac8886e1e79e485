locals {
  charts = [
    { title = "Outcomes by result", filter = "metric.type=\"${local.metric}\"", group = ["metric.label.result"] },
    { title = "Remediated", filter = "metric.type=\"${local.metric}\" metric.label.result=\"remediated\"", group = ["metric.label.runbook"] },
    { title = "Failed, by reason", filter = "metric.type=\"${local.metric}\" metric.label.result=\"failed\"", group = ["metric.label.reason"] },
    { title = "Left alone, by reason", filter = "metric.type=\"${local.metric}\" metric.label.result=one_of(\"refused\",\"skipped\",\"parked\")", group = ["metric.label.reason"] },
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
            dataSets = [{
              plotType = "STACKED_AREA"
              timeSeriesQuery = {
                timeSeriesFilter = {
                  filter = chart.filter
                  aggregation = {
                    alignmentPeriod    = "300s"
                    perSeriesAligner   = lookup(chart, "aligner", "ALIGN_DELTA")
                    crossSeriesReducer = lookup(chart, "reducer", "REDUCE_SUM")
                    groupByFields      = chart.group
                  }
                }
              }
            }]
          }
        }
      }]
    }
  })

  depends_on = [time_sleep.apis]
}
