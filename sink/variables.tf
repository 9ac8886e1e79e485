variable "project_id" {
  description = "Project that owns the topics."
  type        = string

  validation {
    condition     = can(regex("^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "A project id: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "name" {
  description = "Name of the sink and of the topic, and prefix of the dead letter's names."
  type        = string
  default     = "logmend"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "3 to 20 lower-case letters, digits and hyphens, a letter first."
  }
}

variable "projects" {
  description = "Projects whose logs are routed, with a sink in each; empty means project_id. Leave it empty with folder_id or organization_id."
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
  description = "Number of the folder whose logs are routed, child projects and folders included."
  type        = string
  default     = null

  validation {
    condition     = var.folder_id == null || can(regex("^[0-9]+$", var.folder_id))
    error_message = "A folder's number, without folders/ before it."
  }
}

variable "organization_id" {
  description = "Number of the organization whose logs are routed, all projects included."
  type        = string
  default     = null

  validation {
    condition     = var.organization_id == null || can(regex("^[0-9]+$", var.organization_id))
    error_message = "An organization's number, without organizations/ before it."
  }
  validation {
    condition     = length([for set in [length(var.projects) > 0, var.folder_id != null, var.organization_id != null] : set if set]) <= 1
    error_message = "One of projects, folder_id and organization_id at most: two sinks over the same logs deliver every entry twice."
  }
}

variable "filter" {
  description = "Filter of the sink, in the Logging query language; null means filter.lql, which `logmend filter show` prints from the runbooks."
  type        = string
  default     = null

  validation {
    condition     = var.filter == null || try(length(trimspace(var.filter)) > 0 && length(var.filter) <= 20000, false)
    error_message = "At most 20,000 characters, and not empty: an empty filter would route every log entry."
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

variable "labels" {
  description = "Labels of the topics and of the dead-letter subscription."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Keys and values: at most 63 lower-case letters, digits, underscores and hyphens; keys begin with a letter."
  }
}
