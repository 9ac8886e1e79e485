# Where logmend runs

variable "project_id" {
  description = "Project that logmend runs in, keeps its ledger in and records outcomes in."
  type        = string

  validation {
    condition     = can(regex("^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "region" {
  description = "Region of the function, the scheduler and, without ledger_location, the ledger."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region such as us-central1."
  }
}

variable "name" {
  description = "Name of the function, the topic and the sink, and prefix of all other names."
  type        = string
  default     = "logmend"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,18}[a-z0-9]$", var.name))
    error_message = "6 to 20 lower-case letters, digits and hyphens, a letter first: a service account is named so."
  }
}

variable "labels" {
  description = "Labels of everything that can have labels."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Keys and values: at most 63 lower-case letters, digits, underscores and hyphens; keys begin with a letter."
  }
}

# What it may do

variable "mode" {
  description = "Ceiling of what the function may do: observe (only checks, never as root), approve (a person releases each plan) or enforce."
  type        = string
  default     = "observe"

  validation {
    condition     = contains(["observe", "approve", "enforce"], var.mode)
    error_message = "observe, approve or enforce."
  }
}

variable "executor" {
  description = "How VMs are reached: ssh, osconfig, or auto (ssh if a route works, else osconfig)."
  type        = string
  default     = "ssh"

  validation {
    condition     = contains(["ssh", "osconfig", "auto"], var.executor)
    error_message = "ssh, osconfig or auto."
  }
}

variable "disruption_budget" {
  description = "Most enforcements per runbook in any window, COUNT/DURATION."
  type        = string
  default     = "20/10m"

  validation {
    condition     = can(regex("^[1-9][0-9]{0,8}/[0-9]{1,9}[smhd]$", var.disruption_budget))
    error_message = "COUNT/DURATION such as 20/10m."
  }
}

variable "follow_up" {
  description = "Whether a runbook's follow-up (the Ops Agent, after the certificate timer) runs on every VM that was remediated, and the runbook of a cause goes first."
  type        = bool
  default     = false

  validation {
    condition     = var.follow_up != null
    error_message = "true or false."
  }
}

variable "confirm_silence" {
  description = "Whether the function may read the VMs' logs, to see after a fix whether the line stopped while other lines continued."
  type        = bool
  default     = false

  validation {
    condition     = var.confirm_silence != null
    error_message = "true or false."
  }
}

variable "ops_agent_version" {
  description = "Version of the Ops Agent that the ops-agent runbook installs: latest, 2.*.* or a version such as 2.50.0."
  type        = string
  default     = "latest"

  validation {
    condition     = can(regex("^(latest|[0-9]+\\.([0-9]+\\.[0-9]+|\\*\\.\\*))$", var.ops_agent_version))
    error_message = "latest, 2.*.* or a version such as 2.50.0."
  }
}

variable "settings" {
  description = "Further settings of the function, LOGMEND_NAME = \"value\" (docs/settings.md). Settings with a variable of their own are not set here."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.settings) : contains(local.tunable_settings, name)])
    error_message = "No such setting, or one that has a variable of its own: ${join(", ", setsubtract(keys(var.settings), local.tunable_settings))}."
  }
}

variable "runbooks_dir" {
  description = "Folder of your own runbooks, one in each folder below it, beside the built-in ones. A calling module gives its own path.module, with /runbooks behind it."
  type        = string
  default     = null

  validation {
    condition     = var.runbooks_dir == null || try(length(fileset(var.runbooks_dir, "*/runbook.yaml")) > 0, false)
    error_message = "A folder that holds */runbook.yaml."
  }
}

# An object type would drop a misspelt key in silence, so that the keys and values are checked here.
variable "runbooks" {
  description = "By name, what differs from a runbook's defaults: map of object with the optional keys enabled, replaces and allow_irreversible (bool), mode, executor, disruption_budget, disruption_limits and waves (string), windows and blackouts (list of string), cooldowns (map of string), scope (object with projects, zones and labels, lists of string) and parameters (map of string), as in docs/runbooks.md."
  type        = any
  default     = {}

  validation {
    condition     = can([for name, each in var.runbooks : keys(each)])
    error_message = "A map of objects, by the runbooks' names."
  }
  validation {
    condition = try(alltrue([for name, each in var.runbooks :
      length(setsubtract(keys(each), local.runbook_keys)) == 0
    ]), true)
    error_message = "Unknown key ${try(join(", ", flatten([for name, each in var.runbooks : setsubtract(keys(each), local.runbook_keys)])), "")}; known: ${join(", ", local.runbook_keys)}."
  }
  validation {
    condition     = try(alltrue([for name, each in var.runbooks : contains(["observe", "approve", "enforce"], lookup(each, "mode", "observe"))]), false)
    error_message = "mode: observe, approve or enforce; var.mode stays the ceiling."
  }
  validation {
    condition     = try(alltrue([for name, each in var.runbooks : contains(["ssh", "osconfig", "auto"], lookup(each, "executor", "ssh"))]), false)
    error_message = "executor: ssh, osconfig or auto."
  }
  validation {
    condition     = try(alltrue(flatten([for name, each in var.runbooks : [for value in [try(each.enabled, true), try(each.replaces, true), try(each.allow_irreversible, true)] : value == true || value == false]])), false)
    error_message = "enabled, replaces, allow_irreversible: true or false."
  }
  validation {
    condition     = try(alltrue([for name, each in var.runbooks : can(regex("^[1-9][0-9]{0,8}/[0-9]{1,9}[smhd]$", try(each.disruption_budget, "1/1h")))]), false)
    error_message = "disruption_budget: COUNT/DURATION such as 20/10m."
  }
  validation {
    condition = try(alltrue(flatten([for name, each in var.runbooks : [for result, value in try(each.cooldowns, {}) :
      contains(["planned", "refused", "nothing_to_do", "remediated", "failed", "failed_max"], result) && can(regex("^[0-9]{1,9}[smhd]$", value))
    ]])), false)
    error_message = "cooldowns: planned, refused, nothing_to_do, remediated, failed, failed_max, each a duration such as 4h."
  }
  validation {
    condition = try(alltrue(flatten([for name, each in var.runbooks : [for value in concat(try(each.windows, []), try(each.blackouts, [])) :
      can(regex(local.window_form, value))
    ]])), false)
    error_message = "windows, blackouts: lists of [label:KEY=VALUE] [DAYS] [DATES] [HH:MM-HH:MM] ZONE."
  }
  validation {
    condition = try(alltrue(flatten([for name, each in var.runbooks : [for part, values in try(each.scope, {}) :
      contains(["projects", "zones", "labels"], part) && alltrue([for value in values : can(regex("^[^ ,]+$", value))])
    ]])), false)
    error_message = "scope: projects, zones, labels (KEY=VALUE), each a list of text."
  }
  validation {
    condition = try(alltrue(flatten([for name, each in var.runbooks : [for parameter, value in try(each.parameters, {}) :
      can(regex("", value)) && try(tostring(value) == value, false)
    ]])), false)
    error_message = "parameters: text, in quotes if it is a number."
  }
}

# When

variable "windows" {
  description = "Maintenance windows; outside them no VM is changed: [label:KEY=VALUE] [DAYS] [DATES] [HH:MM-HH:MM] ZONE, such as Mon-Fri 22:00-06:00 Europe/Berlin. One of those for any VM has to be open, and one of those for each label that the VM has. Empty: at any time."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.windows : can(regex(local.window_form, each))])
    error_message = "Each [label:KEY=VALUE] [DAYS] [DATES] [HH:MM-HH:MM] ZONE, such as Mon-Fri 22:00-06:00 Europe/Berlin."
  }
}

variable "blackouts" {
  description = "Times in which VMs are not changed, written as windows are: 12-24..01-02 Europe/Berlin."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.blackouts : can(regex(local.window_form, each))])
    error_message = "Each [label:KEY=VALUE] [DAYS] [DATES] [HH:MM-HH:MM] ZONE, such as 12-24..01-02 Europe/Berlin."
  }
}

# Whose VMs

variable "projects" {
  description = "Projects whose VMs are looked after; empty means project_id. With folder_id or organization_id: the projects in it whose VMs may be touched; empty means all."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.projects : can(regex("^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", id))])
    error_message = "Project ids, not numbers or names."
  }
  validation {
    condition     = length(distinct(var.projects)) == length(var.projects)
    error_message = "Each project once."
  }
}

variable "folder_id" {
  description = "Number of a folder all of whose projects are looked after. Needs organization_id too: custom roles live there."
  type        = string
  default     = null

  validation {
    condition     = var.folder_id == null || can(regex("^[0-9]+$", var.folder_id))
    error_message = "A folder's number, without folders/ before it."
  }
  validation {
    condition     = var.folder_id == null || var.organization_id != null
    error_message = "folder_id needs organization_id: a custom role for a folder can only be defined in the organization."
  }
}

variable "organization_id" {
  description = "Number of the organization whose projects are looked after, or that the folder belongs to."
  type        = string
  default     = null

  validation {
    condition     = var.organization_id == null || can(regex("^[0-9]+$", var.organization_id))
    error_message = "An organization's number, without organizations/ before it."
  }
}

variable "zones" {
  description = "Zones whose VMs may be touched; empty means any. The osconfig executor needs this list: its policies are per zone."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for zone in var.zones : can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", zone))])
    error_message = "Zones such as us-central1-a."
  }
  validation {
    condition     = length(var.zones) > 0 || !local.osconfig
    error_message = "executor = \"osconfig\" or \"auto\", of all or of one runbook, needs zones: OS policy assignments are made in each."
  }
}

variable "scope_labels" {
  description = "Labels that a VM must carry, all of them, to be touched; empty means any VM."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.scope_labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Keys and values: at most 63 lower-case letters, digits, underscores and hyphens; keys begin with a letter."
  }
}

variable "exempt_label" {
  description = "Label KEY=VALUE that excludes a VM."
  type        = string
  default     = "logmend=off"

  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]{0,62}=[a-z0-9_-]{0,63}$", var.exempt_label))
    error_message = "KEY=VALUE of lower-case letters, digits, underscores and hyphens."
  }
}

# The way to a VM

variable "ssh_route" {
  description = "iap (a tunnel through Google's relay, which needs only a firewall rule) or direct (from a VPC connector to the VM's internal address)."
  type        = string
  default     = "iap"

  validation {
    condition     = contains(["iap", "direct"], var.ssh_route)
    error_message = "iap or direct."
  }
  validation {
    condition     = var.ssh_route == "iap" || var.connector != null || !local.ssh
    error_message = "ssh_route = \"direct\" needs connector: the function reaches internal addresses through it."
  }
}

variable "ssh_networks" {
  description = "VPC networks that get a firewall rule for the SSH route, projects/PROJECT/global/networks/NAME; empty leaves the firewall alone."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for network in var.ssh_networks : can(regex("^projects/[^/]+/global/networks/[a-z][a-z0-9-]{0,62}$", network))])
    error_message = "projects/PROJECT/global/networks/NAME."
  }
}

variable "ssh_target_tags" {
  description = "Network tags of the VMs that the firewall rule covers; empty means every VM of the network."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for tag in var.ssh_target_tags : can(regex("^[a-z][a-z0-9-]{0,62}$", tag))])
    error_message = "Network tags: lower-case letters, digits and hyphens."
  }
}

variable "connector" {
  description = "For ssh_route = \"direct\": the network for a Serverless VPC Access connector, and an unused /28 range for it."
  type = object({
    network       = string
    ip_cidr_range = string
  })
  default = null

  validation {
    condition     = var.connector == null || try(can(cidrnetmask(var.connector.ip_cidr_range)) && endswith(var.connector.ip_cidr_range, "/28"), false)
    error_message = "ip_cidr_range: an IPv4 range with a mask of /28."
  }
}

variable "ssh_host_keys" {
  description = "Source of VMs' host keys: auto (pinned, else published, else pinned at first contact over IAP), pinned (the same over any route), published, or insecure (any key is accepted; for a trial only)."
  type        = string
  default     = "auto"

  validation {
    condition     = contains(["auto", "pinned", "published", "insecure"], var.ssh_host_keys)
    error_message = "auto, pinned, published or insecure."
  }
}

variable "ssh_known_hosts_secret" {
  description = "Name of a Secret Manager secret in project_id with a known_hosts file; its latest version is used instead of ssh_host_keys."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_known_hosts_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.ssh_known_hosts_secret))
    error_message = "A secret's name: letters, digits, hyphens and underscores."
  }
}

variable "ssh_key_secret" {
  description = "For fleets without OS Login: name of a Secret Manager secret in project_id with the private key to log in with (every host takes ECDSA P-256). Needs ssh_user."
  type        = string
  default     = null

  validation {
    condition     = var.ssh_key_secret == null || can(regex("^[A-Za-z0-9_-]{1,255}$", var.ssh_key_secret))
    error_message = "A secret's name: letters, digits, hyphens and underscores."
  }
}

variable "ssh_user" {
  description = "User name for the key in ssh_key_secret."
  type        = string
  default     = null

  validation {
    condition     = (var.ssh_user == null) == (var.ssh_key_secret == null)
    error_message = "ssh_user and ssh_key_secret go together."
  }
}

variable "ssh_import_keys" {
  description = "Whether to log in with a short-lived key in the login profile if a VM refuses an OS Login certificate (guest environments older than September 2023, security keys)."
  type        = bool
  default     = true

  validation {
    condition     = var.ssh_import_keys != null
    error_message = "true or false."
  }
}

variable "vm_service_accounts" {
  description = "Service accounts that VMs run as, by the project that owns them: OS Login requires iam.serviceAccounts.actAs on them. A project that is left out uses its Compute Engine default account; with folder_id or organization_id, name all."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue(flatten([for accounts in values(var.vm_service_accounts) : [for email in accounts : can(regex("^[^@ ]+@[a-z0-9.-]+\\.gserviceaccount\\.com$", email))]]))
    error_message = "Service accounts' email addresses."
  }
}

# The function

variable "attempt_deadline_seconds" {
  description = "Deadline for everything in one attempt on a VM, in seconds. The function's timeout (300 s) and the lease (600 s) are longer."
  type        = number
  default     = 90

  validation {
    condition     = var.attempt_deadline_seconds >= 30 && var.attempt_deadline_seconds <= 240 && floor(var.attempt_deadline_seconds) == var.attempt_deadline_seconds
    error_message = "A whole number from 30 to 240: a minute below the function's timeout is kept for looking up and recording."
  }
}

variable "max_instances" {
  description = "Most instances of the function. Together with concurrency it limits simultaneous SSH sessions and Firestore transactions."
  type        = number
  default     = 5

  validation {
    condition     = var.max_instances >= 1 && var.max_instances <= 100 && floor(var.max_instances) == var.max_instances
    error_message = "A whole number from 1 to 100."
  }
}

variable "concurrency" {
  description = "Most requests that one instance handles at once. Attempts mostly wait for the network, so one CPU can serve many."
  type        = number
  default     = 80

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 200 && floor(var.concurrency) == var.concurrency
    error_message = "A whole number from 1 to 200."
  }
}

variable "memory" {
  description = "Memory of one instance."
  type        = string
  default     = "1Gi"

  validation {
    condition     = contains(["512Mi", "1Gi", "2Gi", "4Gi"], var.memory)
    error_message = "512Mi, 1Gi, 2Gi or 4Gi."
  }
}

# The ledger and the messages

variable "ledger_database" {
  description = "Id of the Firestore database that is created for the ledger."
  type        = string
  default     = "logmend"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,61}[a-z0-9]$", var.ledger_database))
    error_message = "4 to 63 lower-case letters, digits and hyphens, a letter first. The database (default) is not used."
  }
}

variable "ledger_location" {
  description = "Location of the ledger, a region or nam5 or eur3; null means region. It cannot be changed later."
  type        = string
  default     = null

  validation {
    condition     = var.ledger_location == null || can(regex("^(nam5|eur3|nam7|[a-z]+-[a-z]+[0-9]+)$", var.ledger_location))
    error_message = "A region, or nam5, nam7 or eur3."
  }
}

variable "keep_ledger" {
  description = "Whether `terraform destroy` keeps the ledger's database (which then has deletion protection)."
  type        = bool
  default     = false

  validation {
    condition     = var.keep_ledger != null
    error_message = "true or false."
  }
}

variable "message_retention_days" {
  description = "Days that the topic keeps messages, acknowledged or not, for `gcloud pubsub subscriptions seek`."
  type        = number
  default     = 7

  validation {
    condition     = var.message_retention_days >= 1 && var.message_retention_days <= 31 && floor(var.message_retention_days) == var.message_retention_days
    error_message = "A whole number of days from 1 to 31."
  }
}

# People

variable "operators" {
  description = "Members (user:…, group:…) that may read the ledger and outcomes, approve, freeze, resume, and run or revert by the function."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.operators : can(regex("^(user|group|serviceAccount|domain|principal|principalSet):.+$", member))])
    error_message = "IAM members such as group:sre@example.com; allUsers is not one."
  }
}

variable "outcome_topic" {
  description = "Whether a topic is made that every final outcome is published to as well, for tickets and chat; the output outcome_topic names it."
  type        = bool
  default     = false

  validation {
    condition     = var.outcome_topic != null
    error_message = "true or false."
  }
}

variable "alert_emails" {
  description = "Email addresses for alerts."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+$", address))])
    error_message = "Email addresses."
  }
}

variable "notification_channels" {
  description = "Existing notification channels for alerts, projects/PROJECT/notificationChannels/ID."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for channel in var.notification_channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))])
    error_message = "projects/PROJECT/notificationChannels/ID."
  }
}

variable "alerts" {
  description = "By alert name (docs/operations.md), what differs from its defaults: enabled (bool), threshold (at least so many VMs in an hour, or what else it counts), share (at least so much of the VMs that were attempted, 0 to 1), owner_threshold (the same as threshold for one owner's VMs; 0: owners are not told)."
  type = map(object({
    enabled         = optional(bool)
    threshold       = optional(number)
    share           = optional(number)
    owner_threshold = optional(number)
  }))
  default = {}

  validation {
    condition     = length(setsubtract(keys(var.alerts), keys(local.alert_defaults))) == 0
    error_message = "No such alert: ${join(", ", setsubtract(keys(var.alerts), keys(local.alert_defaults)))}. There are: ${join(", ", keys(local.alert_defaults))}."
  }
  validation {
    condition = alltrue([for name, each in var.alerts : alltrue([for key in ["threshold", "share", "owner_threshold"] :
      each[key] == null || try(contains(keys(local.alert_defaults[name]), key), true)
    ])])
    error_message = "share and owner_threshold are of alerts that count VMs; missed_tick has no threshold."
  }
  validation {
    condition     = alltrue([for each in values(var.alerts) : try(each.threshold >= 1 && floor(each.threshold) == each.threshold, each.threshold == null)])
    error_message = "threshold: a whole number of at least 1."
  }
  validation {
    condition     = alltrue([for each in values(var.alerts) : try(each.owner_threshold >= 0 && floor(each.owner_threshold) == each.owner_threshold, each.owner_threshold == null)])
    error_message = "owner_threshold: a whole number, 0 for no such alert."
  }
  validation {
    condition     = alltrue([for each in values(var.alerts) : try(each.share >= 0 && each.share <= 1, each.share == null)])
    error_message = "share: from 0 to 1."
  }
}

variable "guide_url" {
  description = "Address under which your people read docs/operations.md; each alert links to its own section there. null: alerts name the section only."
  type        = string
  default     = null

  validation {
    condition     = var.guide_url == null || can(regex("^https?://[^ #]+$", var.guide_url))
    error_message = "An http(s) address without # and what follows it."
  }
}

variable "owners" {
  description = "Owners of VMs, as the label that settings.LOGMEND_OWNER_LABEL names has them, each with existing notification channels, projects/PROJECT/notificationChannels/ID: alerts about an owner's VMs go there as well."
  type        = map(list(string))
  default     = {}

  validation {
    condition     = alltrue([for owner in keys(var.owners) : can(regex("^[a-z0-9_-]{1,40}$", owner))])
    error_message = "Owners as a label's value: 1 to 40 lower-case letters, digits, underscores and hyphens."
  }
  validation {
    condition     = alltrue(flatten([for channels in values(var.owners) : [for channel in channels : can(regex("^projects/[^/]+/notificationChannels/[0-9]+$", channel))]]))
    error_message = "projects/PROJECT/notificationChannels/ID."
  }
  validation {
    condition     = length(var.owners) == 0 || contains(keys(var.settings), "LOGMEND_OWNER_LABEL")
    error_message = "owners needs settings.LOGMEND_OWNER_LABEL, the key of the label that names a VM's owner."
  }
}

variable "incident_runbooks" {
  description = "Runbooks that an alert policy starts: ops-agent (the agent fell silent), workload-cert-refresh (a log-based metric counts the line)."
  type        = list(string)
  default     = []

  validation {
    condition     = length(setsubtract(var.incident_runbooks, ["ops-agent", "workload-cert-refresh"])) == 0
    error_message = "ops-agent and workload-cert-refresh have a policy."
  }
}
