output "mode" {
  description = "Ceiling of what the function may do."
  value       = var.mode
}

output "function" {
  description = "Full name of the function."
  value       = google_cloudfunctions2_function.remediate.id
}

output "function_uri" {
  description = "Address that messages are pushed to. It cannot be reached from outside the project."
  value       = google_cloudfunctions2_function.remediate.service_config[0].uri
}

output "service_account" {
  description = "Service account of the function."
  value       = google_service_account.function.email
}

output "permissions" {
  description = "Permissions of the function on the projects that it looks after, in this mode."
  value       = local.permissions_fleet
}

output "operator_settings" {
  description = "Environment for the logmend command on a workstation: the function's own settings."
  value       = merge(local.environment, { LOGMEND_TOPIC = module.sink.topic })
}

output "operator_exports" {
  description = "The same as lines for a shell: eval \"$(terraform output -raw operator_exports)\"."
  value = join("\n", [for name, value in merge(local.environment, { LOGMEND_TOPIC = module.sink.topic }) :
    "export ${name}='${replace(value, "'", "'\\''")}'"
  ])
}

output "topic" {
  description = "Topic that events arrive on."
  value       = module.sink.topic
}

output "subscription" {
  description = "The push subscription, for `gcloud pubsub subscriptions seek`."
  value       = google_pubsub_subscription.push.name
}

output "dead_letter_subscription" {
  description = "Subscription that `logmend replay` reads dead letters from."
  value       = module.sink.dead_letter_subscription
}

output "outcome_topic" {
  description = "Topic that final outcomes are published to; null without the variable of that name."
  value       = one(google_pubsub_topic.outcomes[*].id)
}

output "os_policy_assignments" {
  description = "OS policy assignments, PROJECT/ZONE/RUNBOOK/ACTION."
  value       = keys(local.assignments)
}

output "left_by_destroy" {
  description = "What `terraform destroy` leaves behind."
  value = concat(
    [
      "enabled APIs",
      "log entries and outcomes, for as long as their log bucket keeps them",
      "custom roles, deleted but restorable for a week",
      "the build's image repository (gcf-artifacts) and bucket (gcf-v2-sources-*), which Cloud Functions made",
      "labels logmend-* on VMs, and /var/lib/logmend with the state from before on those that were changed",
    ],
    var.keep_ledger ? ["the ledger's database ${var.ledger_database}"] : [],
  )
}
