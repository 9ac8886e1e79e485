# Per project, zone and runbook up to three static assignments, told apart by the value of one label on the VM:
# check (only looks), enforce and revert. The function sets and removes that label; nothing here names a VM. In
# observe mode there is no assignment that could change anything.

locals {
  scripts = { for name, runbook in local.runbooks : name => { for file in ["validate.sh", "enforce.sh", "revert/validate.sh", "revert/enforce.sh"] :
    file => join("", [
      for part in regexall("@[a-z][a-z0-9]*(?:_[a-z0-9]+)*@|[^@]+|@", file("${local.runbook_folders[name]}/${file}")) :
      lookup({ for parameter, value in local.runbook_parameters[name] : "@${parameter}@" => value }, part, part)
    ]) if fileexists("${local.runbook_folders[name]}/${file}") # of what is irreversible, there is no way back
  } }

  # What says so, or has longer scripts than an OS policy takes, goes over SSH only.
  ssh_only = [for name, files in local.scripts : name
    if anytrue([for text in values(files) : length(text) > 1024]) || !contains(lookup(local.runbooks[name], "executors", ["osconfig"]), "osconfig")
  ]
  inline = [for name in keys(local.scripts) : name if !contains(local.ssh_only, name) && local.runbook_executors[name] != "ssh"]

  policies = {
    check   = { mode = "VALIDATION", folder = "" }
    enforce = { mode = "ENFORCEMENT", folder = "" }
    revert  = { mode = "ENFORCEMENT", folder = "revert/" }
  }
  assignments = {
    for each in setproduct(local.projects, var.zones, local.inline, keys(local.policies)) :
    join("/", each) => { project = each[0], zone = each[1], runbook = each[2], action = each[3] }
    if contains(keys(local.scripts[each[2]]), "${local.policies[each[3]].folder}validate.sh") && (each[3] == "check" || local.runbook_modes[each[2]] != "observe")
  }
}

resource "google_os_config_os_policy_assignment" "runbook" {
  for_each = local.assignments

  project            = each.value.project
  location           = each.value.zone
  name               = "logmend-${each.value.runbook}-${each.value.action}"
  description        = "logmend: ${each.value.action} of ${each.value.runbook}, for VMs that are labelled so."
  skip_await_rollout = true # takes minutes, and nothing waits for it

  instance_filter {
    all = false

    inclusion_labels {
      labels = { "logmend-${each.value.runbook}" = each.value.action }
    }
    exclusion_labels {
      labels = { (split("=", var.exempt_label)[0]) = split("=", var.exempt_label)[1] }
    }
  }

  os_policies {
    id   = "logmend-${each.value.runbook}-${each.value.action}"
    mode = local.policies[each.value.action].mode

    resource_groups {
      resources {
        id = "script"

        exec {
          validate {
            interpreter = "SHELL"
            script      = local.scripts[each.value.runbook]["${local.policies[each.value.action].folder}validate.sh"]
          }

          dynamic "enforce" {
            for_each = local.policies[each.value.action].mode == "ENFORCEMENT" ? ["enforce.sh"] : []
            content {
              interpreter      = "SHELL"
              script           = local.scripts[each.value.runbook]["${local.policies[each.value.action].folder}${enforce.value}"]
              output_file_path = "/var/lib/logmend/${each.value.runbook}.out"
            }
          }
        }
      }
    }
  }

  # "At once": what may change at the same time is the disruption budget's business, kept by the function.
  rollout {
    min_wait_duration = "0s"

    disruption_budget {
      percent = 100
    }
  }

  lifecycle {
    precondition {
      condition     = length(local.scripts[each.value.runbook]["validate.sh"]) <= 1024
      error_message = "An OS policy's script has at most 1,024 characters."
    }
  }

  depends_on = [time_sleep.apis]
}
