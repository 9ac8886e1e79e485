locals {
  wide     = var.folder_id != null || var.organization_id != null
  projects = local.wide || length(var.projects) > 0 ? var.projects : [var.project_id]
  ssh      = contains(values(local.runbook_executors), "ssh") || contains(values(local.runbook_executors), "auto")
  osconfig = contains(values(local.runbook_executors), "osconfig") || contains(values(local.runbook_executors), "auto")
  direct   = local.ssh && var.ssh_route == "direct"

  # Whether anything at all may be changed on a VM, by ssh.
  changes  = anytrue([for name, mode in local.runbook_modes : mode != "observe"])
  ssh_root = anytrue([for name, executor in local.runbook_executors : executor != "osconfig" && local.runbook_modes[name] != "observe"])

  # Secrets that the function reads as files: latest versions, read anew for each attempt.
  secrets = { for name, secret in { "known-hosts" = var.ssh_known_hosts_secret, "ssh-key" = var.ssh_key_secret } :
    name => secret if local.ssh && secret != null
  }

  # What variables are held to. Which days, dates and zones there are is the function's to say.
  runbook_keys = ["enabled", "replaces", "allow_irreversible", "mode", "executor", "disruption_budget", "disruption_limits", "waves", "windows", "blackouts", "cooldowns", "scope", "parameters"]
  window_form  = "^((label:[^ ;]+|[A-Z][a-z]{2}([-,][A-Z][a-z]{2})*|([0-9]{4}-)?[0-9]{2}-[0-9]{2}(\\.\\.([0-9]{4}-)?[0-9]{2}-[0-9]{2})?|[0-9]{2}:[0-9]{2}-[0-9]{2}:[0-9]{2}) )*[A-Z][A-Za-z0-9_+/-]*$"

  # attempt < function < lease, and function < ack deadline: a handler slower than the ack deadline is handed the
  # message again while it still works on it; one that outlives its lease is taken over.
  function_timeout_seconds = 300
  lease_seconds            = 600
  ack_deadline_seconds     = 600

  service_agent = { for service in ["gcp-sa-pubsub", "gcp-sa-monitoring-notification"] :
    service => "serviceAccount:service-${data.google_project.home.number}@${service}.iam.gserviceaccount.com"
  }
}

data "google_project" "home" {
  project_id = var.project_id
}

data "google_project" "fleet" {
  for_each   = local.ssh ? toset(setsubtract(local.projects, keys(var.vm_service_accounts))) : toset([])
  project_id = each.key
}
