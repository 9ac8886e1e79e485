locals {
  functions = "${path.module}/../functions"

  # The same files as functions/.gcloudignore lets through; a test compares the two.
  source_files = [
    for file in fileset(local.functions, "**") : file
    if can(regex("^(main\\.py|requirements\\.txt|runbooks\\.yaml|runbooks/.*\\.(sh|yaml)|logmend/.*\\.(lark|py|sh|typed|yaml))$", file)) && !can(regex("(^|/)(__pycache__|cases|tests)/", file))
  ]

  # Environment of the function: names and values are those of functions/logmend/settings.py.
  environment = merge(var.settings, { for name, value in {
    LOGMEND_MODE              = var.mode
    LOGMEND_EXECUTOR          = var.executor
    LOGMEND_STATE             = "firestore:${var.project_id}/${google_firestore_database.ledger.name}"
    LOGMEND_OUTCOMES          = "cloud"
    LOGMEND_RUNBOOKS          = local.configured ? "runbooks.yaml" : ""
    LOGMEND_PROJECT           = var.project_id
    LOGMEND_SCOPE_PROJECTS    = join(",", local.projects)
    LOGMEND_SCOPE_ZONES       = join(",", var.zones)
    LOGMEND_SCOPE_LABELS      = join(",", [for key, value in var.scope_labels : "${key}=${value}"])
    LOGMEND_EXEMPT_LABEL      = var.exempt_label
    LOGMEND_DISRUPTION_BUDGET = var.disruption_budget
    LOGMEND_WINDOWS           = join("; ", var.windows)
    LOGMEND_BLACKOUTS         = join("; ", var.blackouts)
    LOGMEND_ATTEMPT_DEADLINE  = "${var.attempt_deadline_seconds}s"
    LOGMEND_FUNCTION_TIMEOUT  = "${local.function_timeout_seconds}s"
    LOGMEND_LEASE             = "${local.lease_seconds}s"
    LOGMEND_FOLLOW_UP         = tostring(var.follow_up)
    LOGMEND_CONFIRM_SILENCE   = tostring(var.confirm_silence)
    LOGMEND_OPS_AGENT_VERSION = var.ops_agent_version
    LOGMEND_SSH_ROUTE         = var.ssh_route
    LOGMEND_SSH_HOST_KEYS     = contains(keys(local.secrets), "known-hosts") ? "known-hosts:/secrets/known-hosts/value" : var.ssh_host_keys
    LOGMEND_SSH_IMPORT_KEYS   = tostring(var.ssh_import_keys)
    LOGMEND_SSH_KEY           = contains(keys(local.secrets), "ssh-key") ? "/secrets/ssh-key/value" : ""
    LOGMEND_SSH_USER          = contains(keys(local.secrets), "ssh-key") ? var.ssh_user : ""
    LOGMEND_SERVICE_ACCOUNT   = google_service_account.function.email
    LOGMEND_DEAD_LETTER_TOPIC = module.sink.dead_letter_topic
    LOGMEND_OUTCOME_TOPIC     = var.outcome_topic ? google_pubsub_topic.outcomes[0].id : ""
  } : name => value if value != "" })

  tunable_settings = [
    "LOGMEND_APPROVAL_TTL",
    "LOGMEND_BREAKER_MINIMUM",
    "LOGMEND_BREAKER_RATIO",
    "LOGMEND_BREAKER_WINDOW",
    "LOGMEND_BUSY_LIMIT",
    "LOGMEND_COMPUTE_ENDPOINT",
    "LOGMEND_COMPUTE_READS",
    "LOGMEND_COOLDOWN_FAILED",
    "LOGMEND_COOLDOWN_FAILED_MAX",
    "LOGMEND_COOLDOWN_NOTHING_TO_DO",
    "LOGMEND_COOLDOWN_PLANNED",
    "LOGMEND_COOLDOWN_REFUSED",
    "LOGMEND_COOLDOWN_REMEDIATED",
    "LOGMEND_DISRUPTION_LIMITS",
    "LOGMEND_GROUPS_OF_ONE",
    "LOGMEND_GROUP_SHARE",
    "LOGMEND_IAP_ENDPOINT",
    "LOGMEND_LOGGING_ENDPOINT",
    "LOGMEND_MAX_EVENT_AGE",
    "LOGMEND_NEEDS_HUMAN_AFTER",
    "LOGMEND_OSCONFIG_ENDPOINT",
    "LOGMEND_OSLOGIN_ENDPOINT",
    "LOGMEND_OUTCOME_LABELS",
    "LOGMEND_OWNER_LABEL",
    "LOGMEND_REPEATS",
    "LOGMEND_REQUEST_DEADLINE",
    "LOGMEND_SSH_ADDRESS",
    "LOGMEND_SSH_PORT",
    "LOGMEND_UNREACHABLE_TRIES",
    "LOGMEND_UNVERIFIED_LOOKS",
    "LOGMEND_WAVES",
  ]
}

data "archive_file" "source" {
  type             = "zip"
  output_path      = "${path.root}/.terraform/logmend-source.zip"
  output_file_mode = "0644" # the same archive whoever packs it

  dynamic "source" {
    for_each = merge({ for file in local.source_files : file => file("${local.functions}/${file}") }, local.own_sources)
    content {
      filename = source.key
      content  = source.value
    }
  }

  # What the function would refuse at its start is refused before anything is made.
  lifecycle {
    precondition {
      condition     = length(setsubtract(keys(var.runbooks), keys(local.runbook_folders))) == 0
      error_message = "runbooks: no such runbook: ${join(", ", setsubtract(keys(var.runbooks), keys(local.runbook_folders)))}. There are: ${join(", ", keys(local.runbook_folders))}."
    }
    precondition {
      condition     = alltrue([for name in setintersection(local.own_names, local.built_in_names) : try(var.runbooks[name].replaces, false)])
      error_message = "runbooks_dir has a runbook of a built-in one's name (${join(", ", setintersection(local.own_names, local.built_in_names))}): say runbooks.NAME.replaces = true if it stands for that one."
    }
    precondition {
      condition = alltrue([for name, each in var.runbooks :
        !try(each.replaces, false) || (contains(local.own_names, name) && contains(local.built_in_names, name))
      ])
      error_message = "runbooks: replaces = true needs an own and a built-in runbook of that name."
    }
    precondition {
      condition     = length(local.wrong_parameters) == 0
      error_message = "runbooks: no such parameter, or not of its pattern: ${join(", ", local.wrong_parameters)}."
    }
    precondition {
      condition     = length(local.misplaced) == 0
      error_message = "OS Config cannot carry ${join(", ", local.misplaced)} (docs/runbooks.md, executors): say runbooks.NAME.executor = \"ssh\", or enabled = false."
    }
    precondition {
      condition     = length(local.filters) > 0
      error_message = "runbooks: none that is on has a filter. The sink's filter would be empty, which routes every log entry."
    }
    precondition {
      condition     = length(setsubtract(local.declared_permissions, local.permissions_grantable)) == 0
      error_message = "A runbook declares permissions that logmend is never granted: ${join(", ", setsubtract(local.declared_permissions, local.permissions_grantable))}."
    }
    precondition {
      condition     = length(setsubtract(var.incident_runbooks, keys(local.runbooks))) == 0
      error_message = "incident_runbooks names a runbook that is off: ${join(", ", setsubtract(var.incident_runbooks, keys(local.runbooks)))}."
    }
  }
}

resource "google_storage_bucket" "source" {
  # checkov:skip=CKV_GCP_62: holds nothing but this repository's own code; who reads it is in the Data Access audit log
  project                     = var.project_id
  name                        = "${replace(var.project_id, "/[^a-z0-9-]/", "-")}-${var.name}-source"
  location                    = var.region
  labels                      = var.labels
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  versioning {
    enabled = true # the way back to the release before
  }
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      num_newer_versions = 10
    }
  }

  depends_on = [time_sleep.apis]
}

resource "google_storage_bucket_object" "source" {
  bucket = google_storage_bucket.source.name
  name   = "${var.name}-${data.archive_file.source.output_md5}.zip"
  source = data.archive_file.source.output_path
}

resource "google_cloudfunctions2_function" "remediate" {
  project     = var.project_id
  location    = var.region
  name        = var.name
  description = "logmend in ${var.mode} mode"
  labels      = var.labels

  build_config {
    runtime         = "python313" # the tests run on 3.11 and on this
    entry_point     = "remediate"
    service_account = google_service_account.build.id

    source {
      storage_source {
        bucket = google_storage_bucket.source.name
        object = google_storage_bucket_object.source.name
      }
    }
  }

  # No event trigger: it would bring a managed subscription of its own, and every event twice.
  service_config {
    service_account_email            = google_service_account.function.email
    environment_variables            = local.environment
    ingress_settings                 = "ALLOW_INTERNAL_ONLY" # Pub/Sub of the same project counts as internal
    all_traffic_on_latest_revision   = true
    timeout_seconds                  = local.function_timeout_seconds
    available_cpu                    = "1" # below one CPU there is no concurrency
    available_memory                 = var.memory
    max_instance_count               = var.max_instances
    max_instance_request_concurrency = var.concurrency
    vpc_connector                    = one(google_vpc_access_connector.direct[*].id)
    vpc_connector_egress_settings    = local.direct ? "PRIVATE_RANGES_ONLY" : null

    dynamic "secret_volumes" {
      for_each = local.secrets
      content {
        project_id = var.project_id
        secret     = secret_volumes.value
        mount_path = "/secrets/${secret_volumes.key}"
        versions {
          version = "latest"
          path    = "value"
        }
      }
    }
  }

  # Its first request reads the ledger by its indexes.
  depends_on = [
    time_sleep.roles,
    google_firestore_index.due,
    google_firestore_field.expire_at,
    google_pubsub_topic_iam_member.outcomes,
    google_secret_manager_secret_iam_member.function, # a secret that it may not read stops its start
  ]
}
